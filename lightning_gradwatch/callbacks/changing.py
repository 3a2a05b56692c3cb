# SPDX-License-Identifier: Apache-2.0
"""Which tensors of a module a training changes, and whether they are sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gradwatch.sharding import local


class Changing:
    """The buffers and weights of a module that change.

    Frozen weights count once something has written to them, such as the teacher of a self-supervised model, which is
    moved by hand; a base model that never changes, and which may be large, does not.

    Args:
        module: Before the first step.
    """

    def __init__(self, module: nn.Module) -> None:
        self._versions = {name: _version(p) for name, p in module.named_parameters()}

    def __call__(self, module: nn.Module, optimizers: Iterable[Any]) -> dict[str, Tensor]:
        """Those tensors by name."""
        held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        weights = {
            name: p
            for name, p in module.named_parameters()
            if p.requires_grad or id(p) in held or self._versions.get(name) != _version(p)
        }
        return {**weights, **dict(module.named_buffers())}


def finite(tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """The names of those without NaN and inf on this rank; waits for the device, once."""
    known = {name: local(t) for name, t in tensors.items() if t.is_floating_point() or t.is_complex()}
    if not known:
        return frozenset(tensors)
    flags = [torch.isfinite(t).all() for t in known.values()]
    sound = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
    bad = {name for name, ok in zip(known, sound, strict=True) if not ok}
    return frozenset(tensors.keys() - bad)


def _version(parameter: Tensor) -> int:
    """How often it was written to, as autograd counts it."""
    part = local(parameter)
    return 0 if part.is_inference() else part._version
