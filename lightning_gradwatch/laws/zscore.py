# SPDX-License-Identifier: Apache-2.0
"""A limit some standard deviations above the mean of the recent norms."""

from __future__ import annotations

import math
import sys
from bisect import insort
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_gradwatch.arguments import fraction, optional, positive, whole_number
from lightning_gradwatch.laws.adaptive import USUAL_FACTOR, WARMUP_FACTOR, AdaptiveLaw, lower_median, saved_norms

_SIGMA_FLOOR = 0.05  # of log(norm): constant norms must not make a change of 1e-5 a spike
_FAR = 100.0  # times the limit: no sample of what was usual any more, so that its direction says nothing either
_LOG_MAX = math.log(sys.float_info.max)


class ZScoreClip(AdaptiveLaw):
    """Limits the norm to what is usual: `z` standard deviations above the mean, both of log(norm).

    A norm beyond the limit is taken back further the further out it is, towards the mean: at z_t standard deviations it
    becomes ``exp(mean + z**2 / z_t * sigma)``, which is the limit itself at ``z_t = z``. Beyond 100 times the limit
    that is multiplied by ``100 * limit / norm``: such a gradient is of broken data, and under Adam a whole step in its
    direction, of whatever length, does harm. What it shares with `PercentileClip`, such as the limit during the
    warm-up, is told in `AdaptiveLaw`.

    Source: Kumar et al. 2025, arXiv 2504.02507 (ZClip), which is `ZClip`.
    We differ: logarithms, since norms are skewed and their noise is relative (0.2 % of healthy steps clipped instead of
    0.7 %); sigma is at least 0.05; the statistics are fed with the raw norm, winsorised on both sides, and of several
    unusual norms in a row only with the first, instead of with clipped values; a gradient that is far off counts for
    next to nothing.

    Args:
        z: Standard deviations of log(norm), above 0.
        alpha: What the moving averages keep per step, in (0, 1); 0.98 remembers about 50 steps.
        warmup_steps: Optimizer steps before the statistics hold, at least 1.
        max_norm: A limit on top that always holds, above 0; None for none.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is out of range.
    """

    def __init__(
        self, *, z: float = 3.0, alpha: float = 0.98, warmup_steps: int = 50, max_norm: float | None = None
    ) -> None:
        super().__init__()
        self._z = positive("z", z)
        self._alpha = fraction("alpha", alpha)
        self._warmup_steps = whole_number("warmup_steps", warmup_steps)
        self._max_norm = optional(positive, "max_norm", max_norm)
        self._warmup: list[float] | None = []  # sorted norms; None once it is over
        self._mean, self._var = 0.0, 0.0  # of log(norm)
        self._spread = 0.0  # z * sigma, 0 in the warm-up

    def limit(self) -> float:
        """The largest usual norm, at most `max_norm`."""
        return self._high if self._max_norm is None else min(self._high, self._max_norm)

    def _shrink(self, norm: Tensor) -> Tensor:
        far = (_FAR * (self._high / norm)).clamp(max=1.0)
        shrunk = self._high / norm * far
        if self._spread > 0.0:
            # Equal to exp(mean + spread**2 / (log(norm) - mean)) / norm, without the loss of digits in float32.
            beyond = norm.div(self._high).log().clamp(min=0.0)
            shrunk = shrunk * torch.exp(-self._spread * beyond / (beyond + self._spread))
        return shrunk if self._max_norm is None else torch.minimum(shrunk, self._max_norm / norm)

    def _learn(self, norm: float) -> None:
        if self._warmup is not None:
            insort(self._warmup, min(norm, self._high))
            if len(self._warmup) >= self._warmup_steps:
                self._seed(self._warmup)
        elif len(self._streak) <= 1:
            # A burst of 40 spikes would otherwise raise the limit above itself, winsorised or not.
            step = min(max(math.log(norm) - self._mean, -self._spread), self._spread)
            self._mean += (1.0 - self._alpha) * step
            self._var = self._alpha * (self._var + (1.0 - self._alpha) * step * step)

    def _seed(self, norms: Sequence[float]) -> None:
        scale = lower_median(sorted(norms))
        logs = [math.log(min(max(x, scale / USUAL_FACTOR), scale * USUAL_FACTOR)) for x in norms]
        self._mean = math.fsum(logs) / len(logs)
        self._var = math.fsum((x - self._mean) ** 2 for x in logs) / len(logs)
        self._warmup = None

    def _refresh(self) -> None:
        if self._warmup is None:
            self._spread = self._z * max(math.sqrt(self._var), _SIGMA_FLOOR)
            self._low = math.exp(self._mean - self._spread)
            self._high = math.exp(min(self._mean + self._spread, _LOG_MAX))
        elif self._warmup:
            self._high = WARMUP_FACTOR * lower_median(self._warmup)

    def _remember(self) -> dict[str, Any]:
        warmup = None if self._warmup is None else list(self._warmup)
        return super()._remember() | {"warmup": warmup, "mean": self._mean, "var": self._var}

    def _recall(self, state: Mapping[str, Any]) -> None:
        super()._recall(state)
        self._warmup = None if state["warmup"] is None else saved_norms(state["warmup"])
        self._mean, self._var = float(state["mean"]), float(state["var"])
        if not math.isfinite(self._mean) or not 0.0 <= self._var < math.inf:
            raise ValueError(f"mean {self._mean}, variance {self._var}")
        self._refresh()
