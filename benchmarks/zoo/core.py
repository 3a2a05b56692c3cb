# SPDX-License-Identifier: Apache-2.0

"""What is trained, in pieces that a fault can patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

Batch = tuple[Any, Any]
Change = Callable[[Any], Any]
Model = Callable[[nn.Module, Batch], Any]
Criterion = Callable[[Any, Batch], Tensor]
Params = list[tuple[str, nn.Parameter]]
Make = Callable[[Params, float], list[Optimizer]]
Stepper = Callable[["Learner", Batch, int], "Tensor | None"]


@dataclass
class Task:
    """What a family gives: a network, its batches, and how its output is judged.

    Attributes:
        net: The network.
        batches: For training, one per step.
        check: Clean batches that were not trained on.
        criterion: The loss of an output.
        model: The output of a batch.
        score: What the outcome is judged by, on one batch of `check`, lower is better; None for the loss.
        tags: What faults and variations ask for.
        parts: Submodules with an optimizer each; none for one optimizer of all.
        blind: The score of the best constant answer, where a run may start far above it.
    """

    net: nn.Module
    batches: list[Batch]
    check: list[Batch]
    criterion: Criterion
    model: Model = field(default=lambda net, batch: net(batch[0]))
    score: Callable[[nn.Module, Batch], Tensor] | None = None
    tags: frozenset[str] = frozenset()
    parts: tuple[str, ...] = ()
    blind: float = inf


@dataclass
class Run:
    """A run that is ready to start; faults and variations change it in place.

    Attributes:
        task: The network, its data, its loss.
        rate: The learning rate.
        schedule: Its factor at an optimizer step.
        make: Makes the optimizers of named parameters.
        trained: Which parameters they get.
        trainer: Arguments of the Trainer.
        callbacks: What the user's own code does between the steps.
        judge: The score of one clean batch; kept from the sound run, except where the units change.
        stepper: Replaces the training step; for loops that are no single forward, backward, step.
        automatic: Whether Lightning still does the backward pass and the step of `stepper`.
        layer: The layers at fault (fnmatch pattern), set by a fault.
        onset: The step at which the fault sets in.
        poisoned: The batches that a fault is in.
    """

    task: Task
    rate: float
    schedule: Callable[[int], float]
    make: Make
    trained: Callable[[nn.Module], Params] = field(default=lambda net: list(net.named_parameters()))
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: list[Callback] = field(default_factory=list)
    judge: Callable[[nn.Module, Batch], Tensor] = field(init=False)
    stepper: Stepper | None = None
    automatic: bool = False
    layer: str | None = None
    onset: int = 0
    poisoned: Iterable[int] = ()

    def __post_init__(self) -> None:
        task = self.task
        model, criterion = task.model, task.criterion
        self.judge = task.score or (lambda net, batch: criterion(model(net, batch), batch))

    @property
    def net(self) -> nn.Module:
        """The network."""
        return self.task.net

    @property
    def steps(self) -> int:
        """Batches, which are optimizer steps unless gradients are accumulated."""
        return len(self.task.batches)

    def loss(self, batch: Batch) -> Tensor:
        """The training loss of one batch."""
        return self.task.criterion(self.task.model(self.net, batch), batch)

    def feed(self, x: Change | None = None, y: Change | None = None, at: Iterable[int] | None = None) -> None:
        """Changes inputs or targets: in some batches, or in all and in the clean ones, too (other units)."""
        where = range(self.steps) if at is None else frozenset(at)
        changed = [_changed(b, x, y) if i in where else b for i, b in enumerate(self.task.batches)]
        self.task.batches = changed
        if at is None:
            self.task.check = [_changed(b, x, y) for b in self.task.check]

    def wrap(self, around: Callable[[Tensor, Batch], Tensor]) -> None:
        """Passes the loss through `around`."""
        inner = self.task.criterion
        self.task.criterion = lambda out, batch: around(inner(out, batch), batch)

    def output(self, change: Change) -> None:
        """Passes the output through `change` before the loss; the clean score does not see it."""
        inner = self.task.model
        self.task.model = lambda net, batch: change(inner(net, batch))

    @torch.no_grad()
    def score(self) -> float:
        """The mean over the clean batches, in evaluation mode."""
        self.net.eval()
        with torch.enable_grad() if "double_backward" in self.task.tags else torch.no_grad():
            values = [float(self.judge(self.net, batch)) for batch in self.task.check]
        self.net.train()  # Lightning trains a module in the mode that it finds
        return sum(values) / len(values)


def _changed(batch: Batch, x: Change | None, y: Change | None) -> Batch:
    return (x(batch[0]) if x else batch[0]), (y(batch[1]) if y else batch[1])


class Learner(LightningModule):
    """Trains a run as a user's module would.

    Attributes:
        loss_seen: The loss of the latest batch.
    """

    loss_seen = float("nan")

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.net = run.net
        self.run = run
        self.automatic_optimization = run.stepper is None or run.automatic

    def note(self, loss: Tensor) -> Tensor:
        """`loss` as it was given, remembered for the benchmark."""
        self.loss_seen = float(loss.detach())
        return loss

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        if self.run.stepper is not None:
            return self.run.stepper(self, batch, batch_idx)
        return self.note(self.run.loss(batch))

    @override
    def configure_optimizers(self) -> Any:
        run = self.run
        trained = [(n, p) for n, p in run.trained(self.net) if p.requires_grad]
        parts = [[(n, p) for n, p in trained if n.startswith(part)] for part in run.task.parts or ("",)]
        optimizers = [optimizer for part in parts if part for optimizer in run.make(part, run.rate)]
        schedules = [{"scheduler": LambdaLR(o, run.schedule), "interval": "step"} for o in optimizers]
        return optimizers, schedules
