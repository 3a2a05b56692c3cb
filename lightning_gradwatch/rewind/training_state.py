# SPDX-License-Identifier: Apache-2.0
"""A copy of what a training changes on this rank, and how it is put back. Nothing here is a collective."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_gradwatch.compat import lightning
from lightning_gradwatch.measurement.sharding import local
from lightning_gradwatch.output.failsafe import logger

Tree = Any
"""Tensors in dictionaries and lists, among plain values."""


class TrainingState:
    """Weights, buffers, optimizer states, schedules and the GradScaler's scale of one step.

    Of sharded tensors it holds this rank's part. Copies of CUDA tensors lie in pinned memory of the host and are made
    in the order of the stream, so that nobody waits for them.

    Args:
        file: Where the tensors go, read back with ``weights_only=True``; None for the memory.

    Attributes:
        file: The same.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._tree: Tree = None
        self._rest: Tree = None
        self._keys: list[list[Any]] = []

    def take(self, trainer: Any, tensors: Mapping[str, Tensor]) -> bool:
        """Copies; over the last copy where it fits.

        Args:
            trainer: The Trainer.
            tensors: The weights and buffers, by name.

        Returns:
            Whether the disk took it; if not, what was there before is lost.
        """
        self._keys = [list(optimizer.state) for optimizer in trainer.optimizers]
        states = [[optimizer.state[key] for key in optimizer.state] for optimizer in trainer.optimizers]
        self._tree = copied({"module": dict(tensors), "states": states}, self._tree)
        self._rest = _rest(trainer)
        return self.file is None or self._write(tensors)

    @torch.no_grad()
    def put_back(self, trainer: Any, tensors: Mapping[str, Tensor]) -> None:
        """Makes everything again what it was, in place; gradients are dropped."""
        tree = self._tree if self.file is None else torch.load(self.file, map_location="cpu", weights_only=True)
        for name, kept in tree["module"].items():
            if name in tensors:
                local(tensors[name]).copy_(kept, non_blocking=True)
        for optimizer, keys, states in zip(trainer.optimizers, self._keys, tree["states"], strict=True):
            _put_back_states(optimizer, dict(zip(keys, states, strict=True)))
            optimizer.zero_grad()
        _put_back_rest(trainer, self._rest)

    def _write(self, tensors: Mapping[str, Tensor]) -> bool:
        assert self.file is not None
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()  # the copies may still be under way
        tree, self._tree = self._tree, None
        try:
            torch.save(tree, self.file)
        except (OSError, RuntimeError) as error:  # torch's writer has the latter for a full disk
            logger.warning("[gradwatch] Rewind could not write to %s, and keeps the older state: %s", self.file, error)
            return False
        return True

    @property
    def nbytes(self) -> int:
        """What it takes, in memory or on disk."""
        if self.file is None:
            return _size(self._tree)
        return self.file.stat().st_size if self.file.exists() else 0


def copied(value: Tree, into: Tree = None) -> Tree:
    """A deep copy on the host, in the memory of `into`, an earlier one, where that has the same shape."""
    if isinstance(value, Tensor):
        source = local(value)
        if not _fits(into, source):
            into = torch.empty_like(source, device="cpu", pin_memory=source.is_cuda)
        return into.copy_(source, non_blocking=True)
    if isinstance(value, dict):
        former = into if isinstance(into, dict) else {}
        return {key: copied(entry, former.get(key)) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        earlier = into if isinstance(into, (list, tuple)) and len(into) == len(value) else [None] * len(value)
        return type(value)(copied(entry, last) for entry, last in zip(value, earlier, strict=True))
    return deepcopy(value)


def placed(kept: Tree, current: Tree, device: torch.device) -> Tree:
    """`kept` for use: in the tensors of `current` where it fits, else copied to a device."""
    if isinstance(kept, Tensor):
        if isinstance(current, Tensor) and _fits(local(current), kept):
            local(current).copy_(kept, non_blocking=True)
            return current
        return kept.to(device, copy=True)
    if isinstance(kept, dict):
        now = current if isinstance(current, dict) else {}
        return {key: placed(entry, now.get(key), device) for key, entry in kept.items()}
    if isinstance(kept, (list, tuple)):
        return type(kept)(placed(entry, None, device) for entry in kept)
    return deepcopy(kept)


def _put_back_states(optimizer: Optimizer, states: dict[Any, Any]) -> None:
    device = next(p.device for group in optimizer.param_groups for p in group["params"])
    now = {key: placed(kept, optimizer.state.get(key), device) for key, kept in states.items()}
    optimizer.state.clear()
    optimizer.state.update(now)


def _rest(trainer: Any) -> Tree:
    """What is small: settings of the groups, such as the learning rate, schedules, and the scale of a GradScaler."""
    scaler = lightning.scaler_of(trainer)
    return {
        "groups": [
            [copied({k: v for k, v in group.items() if k != "params"}) for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ],
        "schedules": [deepcopy(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs],
        "scaler": None if scaler is None else scaler.state_dict(),
    }


def _put_back_rest(trainer: Any, rest: Tree) -> None:
    for config, state in zip(trainer.lr_scheduler_configs, rest["schedules"], strict=True):
        config.scheduler.load_state_dict(deepcopy(state))
    for optimizer, groups in zip(trainer.optimizers, rest["groups"], strict=True):
        for group, kept in zip(optimizer.param_groups, groups, strict=False):
            device = group["params"][0].device if group["params"] else torch.device("cpu")
            group.update(placed(kept, group, device))
    scaler = lightning.scaler_of(trainer)
    if scaler is not None:
        scaler.load_state_dict(rest["scaler"])


def _fits(into: Tree, source: Tensor) -> bool:
    return isinstance(into, Tensor) and into.shape == source.shape and into.dtype == source.dtype


def _size(tree: Tree) -> int:
    if isinstance(tree, Tensor):
        return tree.nbytes
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return sum(map(_size, parts))
