# SPDX-License-Identifier: Apache-2.0
"""A limit relative to a percentile of the recent norms."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_gradwatch.arguments import between, positive, whole_number
from lightning_gradwatch.laws.adaptive import (
    STREAK,
    USUAL_FACTOR,
    WARMUP_FACTOR,
    AdaptiveLaw,
    lower_median,
    saved_norms,
)


class PercentileClip(AdaptiveLaw):
    """Limits the norm to `factor` times a percentile of the last `window` norms.

    What it shares with `ZScoreClip`, such as the limit during the warm-up, is told in `AdaptiveLaw`.

    Source: Seetharaman et al. 2020, arXiv 2007.14469 (AutoClip: ``percentile=10, factor=1``, which clips most steps on
    purpose), and icefall's ScaledAdam (``percentile=50, factor=2, window=100``).
    AutoClip as published is `AutoClip`.
    We differ: the history is bounded, does not hold the norm being judged, and a norm enters it as at most the limit or
    4 times the median, whichever is larger.

    Args:
        percentile: In [0, 100]; linear between the two nearest norms, as numpy has it.
        factor: Multiple of the percentile, above 0.
        window: Optimizer steps, at least 1. The warm-up takes the first 50 of them, or all if there are fewer.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is out of range.
    """

    def __init__(self, *, percentile: float = 50.0, factor: float = 2.0, window: int = 512) -> None:
        super().__init__()
        self._percentile = between("percentile", percentile, 0.0, 100.0)
        self._factor = positive("factor", factor)
        self._window = whole_number("window", window)
        self._ceiling = 0.0  # the most that a norm counts for
        self._norms: deque[float] = deque()  # in order of arrival
        self._ordered: list[float] = []  # the same, sorted: a step costs two bisections

    def _learn(self, norm: float) -> None:
        if len(self._norms) == self._window:
            del self._ordered[bisect_left(self._ordered, self._norms.popleft())]
        counted = min(norm, self._ceiling) if self._norms else norm
        self._norms.append(counted)
        insort(self._ordered, counted)

    def _seed(self, norms: Sequence[float]) -> None:
        self._norms = deque(norms[-self._window :])
        self._ordered = sorted(self._norms)

    def _refresh(self) -> None:
        if not self._ordered:
            return
        median = lower_median(self._ordered)
        warm = len(self._ordered) >= min(STREAK, self._window)
        self._high = self._factor * self._quantile() if warm else WARMUP_FACTOR * median
        self._ceiling = max(self._high if warm else 0.0, USUAL_FACTOR * median)

    def _quantile(self) -> float:
        position = (len(self._ordered) - 1) * self._percentile / 100
        below = int(position)
        low, high = self._ordered[below], self._ordered[min(below + 1, len(self._ordered) - 1)]
        return low + (position - below) * (high - low)

    def _remember(self) -> dict[str, Any]:
        return super()._remember() | {"norms": list(self._norms)}

    def _recall(self, state: Mapping[str, Any]) -> None:
        super()._recall(state)
        self._seed(saved_norms(state["norms"]))
        self._refresh()
