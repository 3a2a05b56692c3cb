# SPDX-License-Identifier: Apache-2.0
"""Whole optimizer steps under a Trainer, with nothing, with ours, and with what else there is.

The variants run in turn, and ratios are taken round by round: a machine that changes its speed changes both sides.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import grad_norm
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.ours import five
from benchmarks.peers import AutoClip, ZClip

WARM_UP = 6


@dataclass(frozen=True)
class Case:
    """A network and how often it is timed."""

    name: str
    layers: int
    width: int
    batch: int
    steps: int
    rounds: int


CASES = (
    Case("20 tensors, 0.08 M parameters", 10, 64, 64, 200, 9),
    Case("600 tensors, 0.6 M parameters", 300, 32, 32, 40, 5),
    Case("24 tensors, 13 M parameters", 12, 1040, 512, 12, 5),
)


class Deep(LightningModule):
    """Linear layers with ReLU, trained by AdamW; initialised so that gradients reach the first of 300 layers."""

    def __init__(self, layers: int, width: int, *, fused: bool | None = None) -> None:
        super().__init__()
        self.fused = fused
        self.net = nn.Sequential(*(layer for _ in range(layers) for layer in (nn.Linear(width, width), nn.ReLU())))
        for matrix in (p for p in self.parameters() if p.ndim == 2):
            nn.init.kaiming_normal_(matrix, nonlinearity="relu")

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The mean square."""
        loss: Tensor = self.net(batch[0]).square().mean()
        return loss

    def configure_optimizers(self) -> Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=self.fused)


class Clock(Callback):
    """The time at which each batch starts."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        """Looks at the clock."""
        self.starts.append(time.perf_counter())

    @property
    def steps(self) -> list[float]:
        """Milliseconds of each step."""
        return [1000 * (b - a) for a, b in zip(self.starts, self.starts[1:], strict=False)]


class LogGradNorm(Callback):
    """What Lightning's documentation recommends."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Logs the norm of each parameter's gradient."""
        pl_module.log_dict(grad_norm(pl_module, norm_type=2))


@dataclass(frozen=True)
class Variant:
    """Something that is added to the bare step."""

    name: str
    callbacks: Callable[[], list[Callback]] = list
    settings: tuple[tuple[str, Any], ...] = ()


BARE = Variant("bare")
CLIP = Variant("`gradient_clip_val=1.0`", settings=(("gradient_clip_val", 1.0),))
OURS = Variant("**five callbacks**", five)
OTHERS = (
    Variant("five empty callbacks", lambda: [Callback() for _ in range(5)]),
    Variant("ZClip", lambda: [ZClip()]),
    Variant("AutoClip", lambda: [AutoClip()]),
    Variant("`log_dict(grad_norm(...))`", lambda: [LogGradNorm()]),
)


def trainer_of(callbacks: list[Callback], **settings: Any) -> Trainer:  # noqa: ANN401  Trainer's arguments have no common type
    """A Trainer on the CPU that does nothing but train."""
    return Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **settings,
        },
        callbacks=callbacks,
    )


def step_time(case: Case, variant: Variant) -> float:
    """Milliseconds of the median step."""
    torch.manual_seed(0)
    clock = Clock()
    data = TensorDataset(torch.randn(case.batch, case.width).repeat(case.steps + WARM_UP, 1))
    trainer = trainer_of([*variant.callbacks(), clock], **dict(variant.settings))
    trainer.fit(Deep(case.layers, case.width), DataLoader(data, batch_size=case.batch))
    gc.collect()
    return median(clock.steps[WARM_UP:])


@dataclass(frozen=True)
class Timed:
    """What one variant took, round by round, and what bare steps and clipped ones took in the same rounds."""

    variant: Variant
    own: list[float]
    bare: list[float]
    clip: list[float]

    @property
    def added(self) -> float:
        """Milliseconds more than bare; the median round."""
        return median(a - b for a, b in zip(self.own, self.bare, strict=True))

    def ratios(self, to: str) -> list[float]:
        """Round by round, ``"bare"`` or ``"clip"``."""
        return [a / b for a, b in zip(self.own, getattr(self, to), strict=True)]


def timed(case: Case, variants: tuple[Variant, ...] = (BARE, CLIP, OURS, *OTHERS)) -> Iterator[Timed]:
    """Every variant in turn, as many rounds as the case asks for."""
    taken: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for i in range(case.rounds):
        for variant in variants if i % 2 == 0 else variants[::-1]:
            taken[variant.name].append(step_time(case, variant))
    for variant in variants:
        yield Timed(variant, taken[variant.name], taken[BARE.name], taken[CLIP.name])
