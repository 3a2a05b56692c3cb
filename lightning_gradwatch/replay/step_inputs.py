# SPDX-License-Identifier: Apache-2.0
"""What one optimizer step can be repeated from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_gradwatch.measurement.sharding import is_whole, local
from lightning_gradwatch.replay.files import plain

MOST_BATCHES = 64
"""Batches of one accumulation whose references are held; bounds them where no optimizer step is ever seen."""


class StepInputs:
    """The batches since the last optimizer step, and what they met: random numbers before each, buffers before all.

    Attributes:
        seen: Gradients that were judged in it so far: several optimizers, or several closures of LBFGS.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._batches: list[dict[str, Any]] = []
        self._buffers: dict[str, Tensor] = {}
        self._lost = 0

    def begin(self, pl_module: nn.Module, batch: Any, batch_idx: int) -> None:
        """A batch, before the forward pass."""
        self.end()
        if not self._batches:
            self._buffers = {name: buffer.detach().clone() for name, buffer in pl_module.named_buffers()}
        self._batches.append({"batch": batch, "batch_idx": batch_idx, "rng": _random_numbers(pl_module)})
        if len(self._batches) > MOST_BATCHES:
            del self._batches[0]
            self._lost += 1

    def end(self, *, early: bool = False) -> None:
        """Lets the batches go if a step was taken, or anyway."""
        if self.seen or early:
            self._batches, self._buffers, self._lost, self.seen = [], {}, 0, 0

    def content(self, trainer: Any, pl_module: nn.Module) -> dict[str, Any]:
        """What goes into the file; weights as they are now, before the step."""
        changed: list[str] = []
        kept: dict[str, Any] = {
            "batches": plain(self._batches, "batches", changed),
            "batches_lost": self._lost,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "steps_before": self.seen,
            "precision": str(trainer.precision),
            "rank": trainer.global_rank,
            "world_size": trainer.world_size,
        }
        whole = is_whole(trainer.strategy.model)
        kept["state_dict"] = None
        if not whole:
            kept["state_dict"] = plain({n: local(p) for n, p in pl_module.named_parameters()}, "state_dict", changed)
        elif trainer.is_global_zero:
            state = {name: self._buffers.get(name, value) for name, value in pl_module.state_dict().items()}
            kept["state_dict"] = plain(state, "state_dict", changed)
        return {**kept, "changed": changed}


def _random_numbers(pl_module: nn.Module) -> dict[str, Any]:
    """The states of all generators; none of them waits for a device."""
    device = next((p.device for p in pl_module.parameters()), torch.device("cpu"))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": _as_list(np.random.get_state()),
    }


def _as_list(state: Any) -> tuple[Any, ...]:
    name, keys, *rest = state
    return (name, torch.from_numpy(keys.astype(np.int64)), *rest)
