# SPDX-License-Identifier: Apache-2.0
"""Levels of a loss, what they may differ by through noise, and whether they climb."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import isfinite, sqrt
from statistics import median

LEAST_RISE = 0.2
"""Of the level; smaller rises are none, however sure."""

_NOISE = 2.5  # standard errors; from the prototype behind this package's defaults
_FEWEST = 3  # losses that make a median
_BLOCKS = 6  # that make a climb
_STEADY = 0.25  # of the least rise


def climb(
    start: list[float], recent: Sequence[float], size: int, scale: Callable[[list[float]], float]
) -> float | None:
    """How far the losses have climbed above those of the start, as `LossHistory.climb` says.

    Args:
        start: Known losses of the first steps.
        recent: Those of the last steps, the newest last; not finite where unknown.
        size: Losses per block.
        scale: What a difference is a share of.
    """
    whole = len(recent) // size * size
    parts = [finite(recent[i : i + size]) for i in range(len(recent) - whole, len(recent), size)]
    if len(parts) < _BLOCKS or min(map(len, parts)) < _FEWEST:
        return None
    levels = [median(part) for part in parts]
    least = max(noise(parts[0], parts[-1]), LEAST_RISE * scale(start))
    above = levels[-1] - median(start)
    risen = min(above, levels[-1] - min(levels)) > least
    steps = [after - before for before, after in pairwise(levels[-_BLOCKS:])]
    ups = sum(step > 0 for step in steps) >= len(steps) - 1
    steady = levels[-1] - levels[-_BLOCKS] - max(steps) > _STEADY * least
    return above / scale(start) if risen and ups and steady else 0.0


def finite(values: Iterable[float]) -> list[float]:
    """Those that are known."""
    return [value for value in values if isfinite(value)]


def noise(before: list[float], after: list[float]) -> float:
    """How far the medians of two samples may differ by chance; robust to outliers."""
    residuals = [abs(value - middle) for part in (before, after) for middle in [median(part)] for value in part]
    sigma = 1.4826 * median(residuals)  # of a normal distribution
    return _NOISE * sigma / sqrt(min(len(before), len(after)))
