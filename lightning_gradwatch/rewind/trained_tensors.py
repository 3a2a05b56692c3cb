# SPDX-License-Identifier: Apache-2.0
"""Which tensors a training changes, and whether they are sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gradwatch.engine.participant import Participant
from lightning_gradwatch.measurement.sharding import local


class TrainedTensors:
    """The weights and buffers that a training changes: of its module, and of modules that other callbacks hold.

    The latter are averages of the weights (SWA, EMA). Frozen weights count where all of them together are no larger
    than what trains, or once something has written to them, such as a teacher that is moved by hand. So the frozen base
    of an adapter, which may be large, does not.

    Args:
        trainer: Before the first step.
        pl_module: Its module.
    """

    def __init__(self, trainer: Any, pl_module: nn.Module) -> None:
        trained, frozen = _parameters(trainer, pl_module)
        few = sum(local(p).nbytes for p in frozen.values()) <= sum(local(p).nbytes for p in trained.values())
        self._versions = {} if few else {name: _version(p) for name, p in frozen.items()}

    def __call__(self, trainer: Any, pl_module: nn.Module) -> dict[str, Tensor]:
        """Those tensors by name."""
        trained, frozen = _parameters(trainer, pl_module)
        moved = {name: p for name, p in frozen.items() if self._versions.get(name) != _version(p)}
        buffers = {
            f"{prefix}{name}": buffer
            for prefix, module in _modules(trainer, pl_module)
            for name, buffer in module.named_buffers()
        }
        return {**trained, **moved, **buffers}


def finite(tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """The names of those without NaN and inf on this rank; waits for the device, once."""
    known = {name: local(t) for name, t in tensors.items() if t.is_floating_point() or t.is_complex()}
    if not known:
        return frozenset(tensors)
    flags = [torch.isfinite(t).all() for t in known.values()]
    sound = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
    bad = {name for name, ok in zip(known, sound, strict=True) if not ok}
    return frozenset(tensors.keys() - bad)


def _modules(trainer: Any, pl_module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The module that trains, and those that callbacks other than ours hold, each with a prefix for its names."""
    yield "", pl_module
    for i, callback in enumerate(trainer.callbacks):
        for attribute, value in vars(callback).items():
            if isinstance(value, nn.Module) and value is not pl_module and not isinstance(callback, Participant):
                yield f"{type(callback).__name__} {i} {attribute} ", value


def _parameters(trainer: Any, pl_module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters that train, and the frozen ones; each once."""
    seen: set[int] = set()
    parts: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}
    for prefix, module in _modules(trainer, pl_module):
        for name, parameter in module.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parts[not parameter.requires_grad][f"{prefix}{name}"] = parameter
    return parts


def _version(parameter: Tensor) -> int:
    """How often it was written to, as autograd counts it."""
    part = local(parameter)
    return 0 if part.is_inference() else part._version
