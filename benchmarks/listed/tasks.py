# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - batches, and options that are passed on, are whatever Lightning and torch take
"""LightningModules of the zoo, and what makes runs of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from typing_extensions import override

from benchmarks.listed import data, nets

Loss = Callable[..., Tensor]
MakeOptimizer = Callable[[nn.Module], Optimizer]
Schedule = Callable[[Optimizer], LRScheduler]


class Task(LightningModule):
    """Supervised training of `net`.

    Attributes:
        loss_seen: The loss of the latest step, as a user would log it.
        progress: What the label is judged by, lower is better: the loss, unless the task says otherwise.
    """

    loss_seen = progress = float("nan")

    def __init__(self, net: nn.Module, loss: Loss, optimizer: MakeOptimizer, schedule: Schedule | None = None) -> None:
        super().__init__()
        self.net, self.loss, self.optimizer, self.schedule = net, loss, optimizer, schedule

    def note(self, loss: Tensor, progress: Tensor | float | None = None) -> Tensor:
        """`loss` as it was given, remembered for the benchmark."""
        self.loss_seen = float(loss.detach())
        self.progress = self.loss_seen if progress is None else float(progress)
        return loss

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        x, y = batch
        return self.note(self.loss(self.net(x), y))

    @override
    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.net)
        if self.schedule is None:
            return optimizer
        return [optimizer], [{"scheduler": self.schedule(optimizer), "interval": "step"}]


class Scored(Task):
    """As `Task`, but judged by plain cross-entropy, not by the loss that is trained."""

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        out = self.net(x)
        return self.note(self.loss(out, y), cross_entropy(out.detach(), y))


class Run(NamedTuple):
    """One training run that is ready to start: the module, its batches, arguments of the Trainer."""

    module: Task
    batches: list[Any]
    trainer: dict[str, Any]


def fit(
    net: nn.Module,
    batches: list[Any],
    optimizer: MakeOptimizer,
    loss: Loss = cross_entropy,
    schedule: Schedule | None = None,
    **trainer: Any,
) -> Run:
    """A supervised run; `trainer` are arguments of the Trainer."""
    return Run(Task(net, loss, optimizer, schedule), batches, trainer)


def digits(
    net: nn.Module | None = None,
    optimizer: MakeOptimizer | None = None,
    *,
    steps: int = 200,
    size: int = 64,
    x: data.Change | None = None,
    y: data.Change | None = None,
    at: int | slice = slice(None),
    **options: Any,
) -> Run:
    """The usual run; inputs and targets are changed by `x` and `y`, at batch `at` or in all."""
    batches = data.tamper(data.digits(steps, size), at, x, y)
    return fit(net or nets.small(), batches, optimizer or adam(), **options)


def diabetes(
    net: nn.Module,
    optimizer: MakeOptimizer,
    *,
    y: data.Change | None = None,
    at: int | slice = slice(None),
    **options: Any,
) -> Run:
    """The usual regression; targets are changed by `y`, at batch `at` or in all."""
    return fit(net, data.tamper(data.diabetes(), at, y=y), optimizer, nn.functional.mse_loss, **options)


def everything(net: nn.Module) -> Any:
    """All parameters, as most people write it."""
    return net.parameters()


def sgd(lr: float, of: Callable[[nn.Module], Any] = everything, **options: Any) -> MakeOptimizer:
    """Plain SGD over the parameters that `of` picks."""
    return lambda net: torch.optim.SGD(of(net), lr=lr, **options)


def adam(lr: float = 1e-3, of: Callable[[nn.Module], Any] = everything, **options: Any) -> MakeOptimizer:
    """Adam over the parameters that `of` picks."""
    return lambda net: torch.optim.Adam(of(net), lr=lr, **options)


def factor(of_step: Callable[[int], float]) -> Schedule:
    """A learning rate that is multiplied by a function of the step."""
    return lambda optimizer: LambdaLR(optimizer, of_step)


def times(scale: float, loss: Loss = cross_entropy) -> Loss:
    """`loss` times `scale`."""
    return lambda out, y: scale * loss(out, y)
