# SPDX-License-Identifier: Apache-2.0
"""Batches: scikit-learn's bundled sets, the standard library's text, generated physics, graphs and time series.

B = batch, T = time steps, F = features. Each function gives batches for training and clean ones to judge by.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.listed import data as listed
from benchmarks.zoo.core import Batch

Split = tuple[list[Batch], list[Batch]]
STEPS = 150
CHECKS = 4


def table(name: str, *, steps: int = STEPS, size: int = 32) -> Split:
    """A bundled set, standardised: [B, F] and classes [B], or one standardised number [B, 1]. One in five is kept."""
    x, y = listed.standard(name)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    kept, rest = order[: len(x) // 5], order[len(x) // 5 :]
    draws = rest[torch.randint(len(rest), (steps, size))]
    return [(x[i], y[i]) for i in draws], [(x[i], y[i]) for i in kept.chunk(CHECKS)]


def images(*, steps: int = STEPS, size: int = 32) -> Split:
    """Handwritten digits [B, 1, 8, 8] and classes [B]."""
    train, check = table("digits", steps=steps, size=size)
    return _x(train, _picture), _x(check, _picture)


def rows(*, steps: int = STEPS, size: int = 32) -> Split:
    """Handwritten digits as eight time steps [B, 8, 8] and classes [B]."""
    train, check = table("digits", steps=steps, size=size)
    return _x(train, _rows), _x(check, _rows)


def text(*, steps: int = STEPS, size: int = 16, length: int = 32) -> Split:
    """Python's own manual: characters [B, T] and those that follow them [B, T]."""
    every = listed.text(steps + CHECKS, size, length)
    return every[:steps], every[steps:]


def drawn(draw: Callable[[], Batch], steps: int = STEPS, checks: int = CHECKS) -> Split:
    """Generated batches."""
    return [draw() for _ in range(steps)], [draw() for _ in range(checks)]


def _picture(x: Tensor) -> Tensor:
    return x.view(-1, 1, 8, 8)


def _rows(x: Tensor) -> Tensor:
    return x.view(-1, 8, 8)


def _x(batches: list[Batch], change: Callable[[Tensor], Tensor]) -> list[Batch]:
    return [(change(x), y) for x, y in batches]
