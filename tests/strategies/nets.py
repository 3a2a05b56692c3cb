# SPDX-License-Identifier: Apache-2.0
"""One small network, cut up by each strategy in its own way, and a record of everything that a fit of it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn

BATCHES, BATCH = 8, 16


class Net(pl.LightningModule):
    """Three matrices of odd sizes, so that shards are uneven and some are empty; each rank takes its part of the batch.

    Args:
        cut: How `configure_model` lays the layers out on the ranks.
        loss_factors: Batch index -> factor of the loss; a NaN comes in on rank 1 only, where there is one.
    """

    def __init__(self, cut: Callable[[Net], None] | None = None, loss_factors: dict[int, float] | None = None) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = nn.Linear(12, 33), nn.LayerNorm(33), nn.Linear(33, 17), nn.Linear(17, 1)
        self.cut, self.loss_factors = cut, loss_factors or {}
        self.heard: list[tuple[str, int]] = []

    def configure_model(self) -> None:
        if self.cut is not None:
            self.cut(self)
            self.cut = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = getattr(self.trainer.strategy, "distributed_sampler_kwargs", None) or {"num_replicas": 1, "rank": 0}
        x = batch[0][parts["rank"] :: parts["num_replicas"]]  # means over the ranks are means over the batch
        factor = self.loss_factors.get(batch_idx, 1.0)
        if math.isnan(factor) and self.global_rank != self.trainer.world_size - 1:
            factor = 1.0
        loss: Tensor = self.c(torch.tanh(self.b(self.norm(torch.tanh(self.a(x)))))).square().mean() * factor
        return loss

    def configure_optimizers(self) -> Any:
        first = list(self.a.parameters())
        rest = [p for p in self.parameters() if all(p is not q for q in first)]
        settings: dict[str, Any] = {
            "lr": 0.05,
            "momentum": 0.9,
            "weight_decay": 0.01,
        }  # a skip by zeros would still move the weights
        return torch.optim.SGD([{"params": first}, {"params": rest}], **settings)

    def on_gradient_event(self, event: Any) -> None:
        self.heard.append((event.kind.value, event.step))


class Memory(Logger):
    """Keeps what it is given, on every rank."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    name = version = "memory"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.setdefault(int(step or 0), {}).update({k: float(v) for k, v in metrics.items()})


@dataclass
class Seen:
    """What one rank saw of a fit.

    Attributes:
        rows: Logged scalars by step.
        events: Kind, step, rank, layers and what was done.
        heard: Kind and step of the events that the user's own hook got.
        error: The name of the error that the fit raised, or None.
        steps: Optimizer steps done.
        rates: Learning rates after the fit.
    """

    rows: dict[int, dict[str, float]] = field(default_factory=dict)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    heard: list[tuple[str, int]] = field(default_factory=list)
    error: str | None = None
    steps: int = 0
    rates: list[float] = field(default_factory=list)


def fit(
    module: Any, callbacks: Sequence[Any], strategy: Any, *, ranks: int, ckpt_path: Any = None, **settings: Any
) -> Seen:
    """Fits the module to batches that are the same everywhere."""
    memory, batches = Memory(), settings.pop("batches", BATCHES)
    options = {"max_epochs": 1, "log_every_n_steps": 1, "enable_checkpointing": False, **settings}
    trainer = pl.Trainer(
        accelerator="cpu",
        strategy=strategy,
        devices=ranks,
        use_distributed_sampler=False,
        logger=memory,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    error = None
    try:
        trainer.fit(module, loader(batches), ckpt_path=ckpt_path)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    events = [event for callback in callbacks for event in getattr(callback, "events", [])]
    return Seen(
        rows=memory.rows,
        events=[(e.kind.value, e.severity.value, e.step, e.rank, e.layers, e.action_taken) for e in events],
        heard=getattr(module, "heard", []),
        error=error,
        steps=trainer.global_step,
        rates=[group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups],
    )


def loader(batches: int) -> Any:
    """Unshuffled batches [16, 12]."""
    x = torch.randn(batches * BATCH, 12, generator=torch.Generator().manual_seed(7))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=BATCH)
