# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - what torch hands to the hooks of an optimizer
"""What knows the fault, to tell which runs can be rescued at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from typing_extensions import override

CAPS = (0.1, 0.01, 0.03, 3e-3, 0.3, 1e-3, 1.0, 3e-4, 3.0, 1e-4, 1e-5, 1e-6)
"""On the learning rate, the likely ones first."""

LIMITS = (float("inf"), 1.0)
"""On the norm."""


class Oracle(Callback):
    """Caps the learning rate, limits the norm, passes over non-finite steps and over poisoned batches.

    Args:
        cap: On the learning rate.
        limit: On the norm of the gradient.
        poisoned: The batches to pass over.
    """

    def __init__(self, cap: float, limit: float, poisoned: range) -> None:
        self.cap, self.limit, self.poisoned = cap, limit, poisoned
        self.own: list[float] = []

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(self._lower)
            optimizer.register_step_post_hook(self._restore)

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        norm = clip_grad_norm_(pl_module.parameters(), self.limit) if self.limit < float("inf") else None
        known = trainer.fit_loop.epoch_loop.batch_idx in self.poisoned
        grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
        finite = all(bool(g.isfinite().all()) for g in grads) and (norm is None or bool(norm.isfinite()))
        if known or not finite:
            for p in pl_module.parameters():
                p.grad = None

    def _lower(self, optimizer: Optimizer, *_: Any) -> None:
        self.own = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = min(group["lr"], self.cap)

    def _restore(self, optimizer: Optimizer, *_: Any) -> None:
        for group, lr in zip(optimizer.param_groups, self.own, strict=True):
            group["lr"] = lr


def grid(poisoned: range) -> Iterator[tuple[str, Callable[[], Oracle]]]:
    """Every point, by name."""
    for cap, limit in product(CAPS, LIMITS):
        yield f"rate <= {cap:g}, norm <= {limit:g}", partial(Oracle, cap, limit, poisoned)
