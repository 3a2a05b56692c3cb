# SPDX-License-Identifier: Apache-2.0
"""The loop around the step: weights moved by somebody else, gradients that stay, a sign."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from benchmarks.zoo.core import Run
from benchmarks.zoo.fault import NOTHING, TOO_LARGE, fault

MOVED = (*NOTHING, "overwritten")
CLIMBS = (*TOO_LARGE, "diverging")


class Puts(Callback):
    """Mixes kept weights into those that a step left: all of them, or an average's share."""

    def __init__(self, keep: float) -> None:
        self.keep, self.kept = keep, list[Tensor]()

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.kept = self.kept or [p.detach().clone() for p in pl_module.parameters()]

    @override
    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        for kept, p in zip(self.kept, pl_module.parameters(), strict=True):
            kept.lerp_(p, 1 - self.keep)
            p.copy_(kept)


class Clears(Callback):
    """Clears the gradients between the backward pass and the step."""

    @override
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for p in pl_module.parameters():
            if p.grad is not None:
                p.grad.zero_()


@fault("tuning", MOVED, "weights put back")
def weights_put_back(run: Run) -> None:
    """A copy is written back after each step."""
    run.callbacks.append(Puts(1.0))


@fault("left out", MOVED, "weights put back")
def average_written_back(run: Run) -> None:
    """The moving average is written into the network after each step, not into a copy."""
    run.callbacks.append(Puts(0.9999))


@fault("tuning", NOTHING, "no zero_grad", "detached", "loss formula", unless=["manual"])
def cleared_before_the_step(run: Run) -> None:
    """`zero_grad` in the wrong place."""
    run.callbacks.append(Clears())


class Kept(Callback):
    """Puts earlier gradients back before the backward pass adds to them."""

    def __init__(self) -> None:
        self.grads: dict[int, Tensor] = {}

    @override
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        for i, p in enumerate(pl_module.parameters()):
            p.grad = self.grads.get(i)

    @override
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.grads = {i: p.grad.detach().clone() for i, p in enumerate(pl_module.parameters()) if p.grad is not None}


@fault("left out", CLIMBS, "no zero_grad", unless=["manual"], rescue=True)
def never_cleared(run: Run) -> None:
    """`zero_grad` is never called."""
    run.callbacks.append(Kept())


@fault("left out", CLIMBS, "loss formula", unless=["own loop"])
def wrong_sign(run: Run) -> None:
    """The loss is maximised."""
    run.wrap(lambda loss, _: -loss)


class Shrinks(Callback):
    """Scales the gradient of all parameters."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    @override
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for p in pl_module.parameters():
            if p.grad is not None:
                p.grad.mul_(self.scale)


@fault("tuning", NOTHING, "loss formula", "rate too low", "clipping", needs=["sgd"], unless=["manual"])
def scale_left_in(run: Run) -> None:
    """Gradients are divided by a loss scale of 65,536 that was never applied."""
    run.callbacks.append(Shrinks(2.0**-16))


class Renews(Callback):
    """Draws all weights again now and then."""

    def __init__(self, every: int) -> None:
        self.every = every

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.global_step % self.every == self.every - 1:
            for module in pl_module.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()


@fault("left out", (*CLIMBS, *MOVED), "weights put back", "initialisation", subtle=True)
def weights_drawn_again(run: Run) -> None:
    """The initialisation is called at the start of each epoch of ten steps."""
    run.callbacks.append(Renews(10))
