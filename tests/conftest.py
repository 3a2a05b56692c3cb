# SPDX-License-Identifier: Apache-2.0
"""Tiny modules whose gradients are known by hand, and a Trainer that fits them in milliseconds."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import lightning.pytorch  # noqa: F401  both namespaces before the package, so that its callbacks belong to both
import pytest
import pytorch_lightning
import torch
from hypothesis import settings
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.resumable import Resumable

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule
    from pytorch_lightning.loggers.logger import Logger
else:  # the namespace of a test is mixed in
    Callback = LightningModule = Logger = object

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")
EVERYTHING_OFF = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": -1,
    "log_every_n_steps": 1,
}
# The same examples on every machine, and no test that fails because a machine is slow.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
for name in NAMESPACES:
    logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.ERROR)


class Base(LightningModule):
    """A module with an exchangeable optimizer: a callable of the parameters."""

    def __init__(self, optimizer: Any = None) -> None:
        super().__init__()
        self.make_optimizer = optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=0.125))

    def configure_optimizers(self) -> Any:
        return self.make_optimizer(self.parameters())


class LeverMixin(Base):
    """Four weights of 1; the norm of the gradient is what the batch says, equally spread over the entries."""

    def __init__(self, optimizer: Any = None) -> None:
        super().__init__(optimizer)
        self.w = nn.Parameter(torch.ones(4))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        pull: Tensor = batch[0].mean() / 2
        return (self.w * pull).sum()


class NetMixin(Base):
    """Regression with dropout: three matrices, three biases, batches of 8 rows of 6 numbers."""

    def __init__(self, optimizer: Any = None) -> None:
        super().__init__(optimizer)
        hidden = [nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 8), nn.Tanh()]
        self.net = nn.Sequential(*hidden, nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)


class TraceMixin(Callback):
    """What a step left behind, batch by batch: the gradient's norm (None without gradients), the weights."""

    def __init__(self) -> None:
        self.norms: list[float | None] = []
        self.weights: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.norms.append(gradient_norm(pl_module))
        self.weights.append(flat(pl_module))


class MemoryMixin(Logger):
    """A logger that keeps its points: the values by step, for each tag."""

    name = version = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, dict[int, float]] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        for tag, value in metrics.items():
            self.points.setdefault(tag, {})[-1 if step is None else step] = float(value)

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...


class Kit:
    """Everything a test of the callbacks needs, in one namespace of Lightning."""

    def __init__(self, namespace: str) -> None:
        self.pl: Any = importlib.import_module(namespace)
        self.rows, self.column = rows, column
        self.flat, self.gradient_norm = flat, gradient_norm
        self.verdicts, self.found = verdicts, found
        self.Base: Any = type("Base", (Base, self.pl.LightningModule), {})
        self.Lever: Any = type("Lever", (LeverMixin, self.pl.LightningModule), {})
        self.Net: Any = type("Net", (NetMixin, self.pl.LightningModule), {})
        self.Memory: Any = type("Memory", (MemoryMixin, self.pl.loggers.logger.Logger), {})
        self.Trace: Any = type("Trace", (TraceMixin, self.pl.Callback), {})

    def trainer(self, callbacks: Iterable[Any] = (), steps: int = -1, **settings: Any) -> Any:
        """A quiet Trainer on the CPU."""
        return self.pl.Trainer(callbacks=list(callbacks), max_steps=steps, **{**EVERYTHING_OFF, **settings})

    def fit(
        self,
        module: Any,
        callbacks: Iterable[Any] = (),
        steps: int = 10,
        loader: Any = None,
        ckpt_path: Any = None,
        **settings: Any,
    ) -> Any:
        """The Trainer after a fit from a fixed seed."""
        torch.manual_seed(0)
        trainer = self.trainer(callbacks, steps, **settings)
        trainer.fit(module, rows() if loader is None else loader, ckpt_path=ckpt_path)
        return trainer

    def pull(
        self, norms: Sequence[float], callbacks: Iterable[Any] = (), optimizer: Any = None, **settings: Any
    ) -> Any:
        """Fits a Lever to gradients of these norms; what it left behind, with `.trainer` and `.module`."""
        trace, module = self.Trace(), self.Lever(optimizer)
        trace.module = module
        trace.trainer = self.trainer([*callbacks, trace], settings.pop("steps", len(norms)), **settings)
        trace.trainer.fit(module, column(norms))
        return trace

    def net(self, optimizer: Any = None) -> Any:
        """A `Net` with the same weights each time."""
        torch.manual_seed(1)
        return self.Net(optimizer)


def rows(batches: int = 20, size: int = 8) -> Any:
    """Unshuffled batches of `size` rows [6] and targets [1]."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(batches * size, 6, generator=generator)
    return Resumable(TensorDataset(x, x.sum(1, keepdim=True).sin()), batch_size=size)


def column(norms: Sequence[float]) -> Any:
    """One number to a batch."""
    return Resumable(TensorDataset(torch.tensor(norms, dtype=torch.float32)), batch_size=1)


def flat(module: nn.Module) -> Tensor:
    """All weights, copied."""
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).clone()


def gradient_norm(module: nn.Module) -> float | None:
    """The norm of all gradients; None if there is none."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).item() if gradients else None


def verdicts(*detectors: Any) -> list[Any]:
    """All events, in order, without what was found out about them in the batches after."""
    return [e for detector in detectors for e in detector.events if not e.message.startswith("diagnosed from")]


def found(*detectors: Any) -> list[tuple[str, str, int]]:
    """Their kinds, severities and steps."""
    return [(e.kind.value, e.severity.value, e.step) for e in verdicts(*detectors)]


@pytest.fixture(scope="session")
def kit() -> Kit:
    """In the namespace that the package requires."""
    return Kit(pytorch_lightning.__name__)


@pytest.fixture(scope="session", params=NAMESPACES)
def namespace(request: pytest.FixtureRequest) -> Kit:
    """In each of the two namespaces."""
    return Kit(request.param)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """What the package wrote to the screen so far, as one text."""
    caplog.set_level(logging.INFO, logger="lightning_gradwatch")
    return lambda: "\n".join(r.getMessage() for r in caplog.records if r.name == "lightning_gradwatch")
