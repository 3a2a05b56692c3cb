# SPDX-License-Identifier: Apache-2.0

"""Callbacks that see how a run ends, for the label, and change nothing in it."""

from __future__ import annotations

from fnmatch import fnmatch
from math import isfinite
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from benchmarks.listed.tasks import Task


class Progress(Callback):
    """Keeps what the label is judged by.

    Attributes:
        curve: `Task.progress` after each batch.
        bad_step: The first optimizer step at which the loss or a gradient was not finite, or None.
    """

    def __init__(self) -> None:
        self.curve: list[float] = []
        self.bad_step: int | None = None

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.bad_step is None:
            grads = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
            finite = all(bool(grad.to_dense().isfinite().all()) for grad in grads)
            if not (finite and isfinite(seen(pl_module))):
                self.bad_step = trainer.global_step

    @override
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Task)
        self.curve.append(float(pl_module.progress))


class FaultCheck(Callback):
    """Tells whether the named parameters have the fault that a label claims.

    Attributes:
        matched: Parameters that match the pattern.
        graded: Optimizer steps at which any of them had a gradient that was not exactly zero.
    """

    def __init__(self, pattern: str, onset: int) -> None:
        self.pattern, self.onset = pattern, onset
        self.matched: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}
        self.graded = 0

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not self.before and trainer.global_step >= self.onset:
            self.matched = {n: p for n, p in pl_module.named_parameters() if fnmatch(n, self.pattern)}
            self.before = {n: p.detach().clone() for n, p in self.matched.items()}

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        grads = [p.grad for p in self.matched.values() if p.grad is not None]
        self.graded += any(bool(grad.count_nonzero()) for grad in grads)

    def holds(self, fault: str) -> bool:
        """Whether the run showed `fault` from the onset to its end."""
        if not self.matched:
            return False
        if fault == "no gradient":
            return self.graded == 0
        return self.graded > 0 and all(torch.equal(p, self.before[n]) for n, p in self.matched.items())


def seen(pl_module: LightningModule) -> float:
    """The loss of the latest step as the user would log it."""
    assert isinstance(pl_module, Task)
    return float(pl_module.loss_seen)
