# SPDX-License-Identifier: Apache-2.0
"""A module, callbacks and loggers that do what a plan says."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn
from typing_extensions import override

from benchmarks.chaos.plan import GradientFault, Plan


class UserError(Exception):
    """What the user's own code raises."""


class Module(LightningModule):
    """A small network, with a sparse embedding where the plan wants one, whose gradients are tampered with."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.automatic_optimization = plan.optimizer != "manual"
        self.table = nn.Embedding(5, 6, sparse=plan.optimizer == "sparse")
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        self.heard: list[Any] = []
        self.batch = -1

    @override
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        self.batch = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1
        self.fail("module.training_step")
        self.die("training step")
        x, y, row = batch
        if not self.automatic_optimization:
            optimizers: Any = self.optimizers()  # typed as one or a list; here there are two
            for optimizer in optimizers:
                optimizer.zero_grad()
                self.manual_backward(self.loss(x, y, row))
                optimizer.step()
            return None
        return self.loss(x, y, row)

    def loss(self, x: Tensor, y: Tensor, row: Tensor) -> Tensor:
        """The mean square; NaN where a fault wants the gradients of one rank to be."""
        loss = nn.functional.mse_loss(self.net(x + self.table(row)), y)
        if self.trainer.world_size > 1:  # a reducer averages before `on_after_backward`
            for fault in self.faults():
                loss = loss * {"nan": torch.nan, "inf": torch.inf, "huge": 1e30, "zero": 0.0}.get(fault.kind, 1e4)
        return loss

    def faults(self) -> list[GradientFault]:
        """Those of this batch and rank."""
        return [f for f in self.plan.gradients if f.batch == self.batch and f.rank == self.global_rank]

    @override
    def on_after_backward(self) -> None:
        self.die("after backward")
        if self.trainer.world_size == 1:
            for fault in self.faults():
                tamper(list(self.parameters())[fault.parameter % 7], fault.kind)

    @override
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.fail("module.on_before_optimizer_step")
        self.die("before the step")

    def on_gradient_event(self, event: Any) -> None:
        """Keeps what it is told."""
        self.heard.append(event)
        self.fail("module.on_gradient_event")

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.die("saving")

    @override
    def configure_optimizers(self) -> Any:
        return optimizers(self, self.plan.optimizer)

    def fail(self, who: str) -> None:
        """Raises where the plan says so."""
        if self.plan.raises is not None and self.plan.raises[0] == who and self.batch >= self.plan.raises[1]:
            raise UserError(f"{who} of seed {self.plan.seed}")

    def die(self, point: str) -> None:
        """Kills the process where the plan says so."""
        if self.plan.death is None or self.plan.death[1] != point or self.batch < self.plan.death[2]:
            return
        how = self.plan.death[0]
        if how == "exception":
            raise UserError(f"{point} of seed {self.plan.seed}")
        if how in ("SIGKILL", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, how))


def tamper(parameter: nn.Parameter, kind: str) -> None:
    """Makes the gradient of one parameter wrong."""
    gradient = parameter.grad
    if gradient is None:
        return
    values = gradient._values() if gradient.is_sparse else gradient
    numbers = {"nan": torch.nan, "inf": torch.inf, "huge": 1e30, "tiny": 1e-30}
    if kind in numbers:
        values.reshape(-1)[0] = numbers[kind]
    elif kind == "missing":
        parameter.grad = None
    elif kind == "dtype":
        parameter.grad_dtype = None
        parameter.grad = gradient.double()
    else:
        values.mul_({"zero": 0.0, "spike": 1e4}[kind])


def optimizers(module: Module, name: str) -> Any:
    """As a user would write them."""
    parameters = list(module.parameters())
    if name == "manual":
        return [torch.optim.SGD(parameters[:3], 0.02), torch.optim.AdamW(parameters[3:], 0.01)]
    makes: dict[str, Any] = {
        "sgd": lambda: torch.optim.SGD(parameters, 0.02, momentum=0.9, weight_decay=1e-4),
        "adamw": lambda: torch.optim.AdamW(parameters, 0.01),
        "fused": lambda: torch.optim.AdamW(parameters, 0.01, fused=True),
        "lbfgs": lambda: torch.optim.LBFGS(parameters, 0.1, max_iter=3),
        "sparse": lambda: torch.optim.SGD(parameters, 0.02),
    }
    return makes[name]()


class User(Callback):
    """The user's own callback: hears, raises, looks at the weights after each batch, dies."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.heard: list[Any] = []
        self.bad: list[int] = []
        self.before: list[Any] = []
        self.first: int | None = None

    @override
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # a run that is resumed at its end starts no training
        self.before = [event for callback in trainer.callbacks for event in getattr(callback, "events", [])]

    def on_gradient_event(self, trainer: Any, pl_module: Any, event: Any) -> None:
        """Keeps what it is told."""
        self.heard.append(event)
        pl_module.fail("callback.on_gradient_event")

    @override
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.first = trainer.global_step if self.first is None else self.first
        pl_module.die("batch start")

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not all(parameter.isfinite().all() for parameter in pl_module.parameters()):
            self.bad.append(trainer.global_step)
        pl_module.fail("callback.on_train_batch_end")
        pl_module.die("batch end")


class Memory(Logger):
    """Keeps the last value of each tag; raises from the third call on if it is told to."""

    name = version = "memory"

    def __init__(self, *, raises: bool) -> None:
        super().__init__()
        self.raises, self.calls = raises, 0
        self.tags: dict[str, float] = {}

    @override
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.calls += 1
        if self.raises and self.calls > 2:
            raise ConnectionError("the server is gone")
        self.tags |= {tag: float(value) for tag, value in metrics.items()}

    @override
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


def logger(plan: Plan, folder: Path) -> Any:
    """The logger of a plan, after what it needs was broken."""
    if plan.logger == "tensorboard":
        return TensorBoardLogger(folder)
    if plan.logger == "csv":
        return CSVLogger(folder)
    if plan.logger == "file in the way":
        (folder / "taken").touch()
        return TensorBoardLogger(folder / "taken")
    if plan.logger == "disk full":  # for this process; Python ignores SIGXFSZ, so writing raises
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, resource.RLIM_INFINITY))
        return TensorBoardLogger(folder)
    return Memory(raises=plan.logger == "raises") if plan.logger in ("memory", "raises") else False
