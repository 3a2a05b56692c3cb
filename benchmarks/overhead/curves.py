# SPDX-License-Identifier: Apache-2.0
"""How the added time grows with tensors and with parameters, and a picture of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.ours import five
from benchmarks.overhead.steps import Clock, trainer_of

TENSORS = (10, 30, 100, 300, 1000, 3000, 10_000)
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)  # parameters, in 20 tensors
STEPS, WARM_UP, ROUNDS = 30, 12, 3


class Bare(LightningModule):
    """Parameters whose gradients lie there already: a step is the optimizer's and whatever watches it."""

    def __init__(self, tensors: int, entries: int, clip: float | None = None) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(entries // 8, 8)) for _ in range(tensors)])
        self.clip = clip
        self.automatic_optimization = False

    def on_train_start(self) -> None:
        """Makes the gradients, which nobody clears."""
        for weight in self.weights:
            weight.grad = torch.randn_like(weight)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """One optimizer step."""
        optimizer: Any = self.optimizers()  # one, or a list of several
        if self.clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")
        optimizer.step()

    def configure_optimizers(self) -> Optimizer:
        """The plainest."""
        return torch.optim.SGD(self.parameters(), lr=1e-6)


@dataclass(frozen=True)
class Point:
    """Milliseconds that are added to a bare step, and its length."""

    tensors: int
    parameters: int
    bare: float
    ours: float
    clip: float


def point(tensors: int, entries: int) -> Point:
    """The median of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        bare, ours = _step(Bare(tensors, entries), []), _step(Bare(tensors, entries), five())
        rounds.append((bare, ours - bare, _step(Bare(tensors, entries, 1.0), []) - bare))
    return Point(tensors, tensors * entries, *(median(side) for side in zip(*rounds, strict=True)))


def over_tensors() -> Iterator[Point]:
    """Tensors of 64 entries."""
    return (point(tensors, 64) for tensors in TENSORS)


def over_parameters() -> Iterator[Point]:
    """Twenty tensors."""
    return (point(20, size // 20) for size in SIZES)


def draw(tensors: list[Point], parameters: list[Point], path: Path) -> None:
    """Both curves, in double logarithmic axes."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, points, label in ((axes[0], tensors, "tensors"), (axes[1], parameters, "parameters")):
        x = [getattr(p, label) for p in points]
        for name, style in (("ours", "o-"), ("clip", "s--")):
            title = {"ours": "five callbacks", "clip": "gradient_clip_val=1.0"}[name]
            axis.plot(x, [max(getattr(p, name), 1e-3) for p in points], style, label=title)
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="added to a step (ms)")
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_title("tensors of 64 entries")
    axes[1].set_title("20 tensors")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def _step(module: Bare, callbacks: list[Callback]) -> float:
    clock = Clock()
    steps = STEPS + WARM_UP
    trainer_of([*callbacks, clock]).fit(module, DataLoader(TensorDataset(torch.zeros(steps, 1)), batch_size=1))
    return median(clock.steps[WARM_UP:])
