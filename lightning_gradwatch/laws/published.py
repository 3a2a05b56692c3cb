# SPDX-License-Identifier: Apache-2.0
"""AutoClip and ZClip as their papers have them, to compare with."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gradwatch.laws.adaptive import saved_norms
from lightning_gradwatch.laws.percentile import PercentileClip
from lightning_gradwatch.laws.zscore import ZScoreClip

_EPS = 1e-6


class AutoClip(PercentileClip):
    """AutoClip as published: the norm is limited to a percentile of all norms so far, this one included.

    Source: Seetharaman et al. 2020, arXiv 2007.14469, section 2.
    We differ: norms that are zero or not finite are ignored; there, one NaN ends the run.
    As there, unlike `PercentileClip`: the whole history counts, as it was, so that early norms are never forgotten, and
    memory and checkpoint grow by 8 bytes per step.

    Args:
        percentile: In [0, 100]; 10 is the paper's, which clips most steps on purpose.
    """

    standalone: ClassVar[bool] = True
    _former_name: ClassVar[str | None] = "PublishedAutoClip"

    def __init__(self, percentile: float = 10.0) -> None:
        super().__init__(percentile=percentile, factor=1.0)

    def update(self, norm: float) -> None:
        """Learns from the raw norm of the step just judged."""
        if 0.0 < norm < math.inf:
            insort(self._ordered, norm)
            self._refresh()

    def _shrink(self, norm: Tensor) -> Tensor:
        # With one more norm in the row, each place holds it, or the norm that was there or before it.
        low, share = self._place()
        target = torch.lerp(self._with(norm, low), self._with(norm, low + 1), share)
        return target / (norm + _EPS)

    def _with(self, norm: Tensor, place: int) -> Tensor:
        """What stands at `place` in the ordered norms once `norm` is among them."""
        below = self._ordered[place - 1] if 0 < place <= len(self._ordered) else 0.0
        above = self._ordered[place] if place < len(self._ordered) else math.inf
        return norm.clamp(below, above)

    def _place(self) -> tuple[int, float]:
        position = len(self._ordered) * self._percentile / 100
        return int(position), position - int(position)

    def _refresh(self) -> None:
        place = self._place()[0]
        self._high = self._ordered[place] if place < len(self._ordered) else math.inf

    def _seed(self, norms: Sequence[float]) -> None:
        self._ordered = sorted(norms)

    def _remember(self) -> dict[str, Any]:
        return {"norms": list(self._ordered)}

    def _recall(self, state: Mapping[str, Any]) -> None:
        self._seed(saved_norms(state["norms"]))
        self._refresh()


class ZClip(ZScoreClip):
    """ZClip step by step: z 2.5, alpha 0.97, 25 steps of warm-up, and never above norm 1.

    Source: Kumar et al. 2025, arXiv 2504.02507, mode "zscore" with "adaptive_scaling".
    We differ: norms that are zero or not finite are ignored; there, the first one ends all clipping.
    As there, unlike `ZScoreClip`: the statistics are those of the norm itself and are fed with clipped values, so that
    a lasting rise by more than about 8 standard deviations is clipped for ever; only `max_norm` limits in the warm-up.
    """

    standalone: ClassVar[bool] = True
    _former_name: ClassVar[str | None] = "PublishedZClip"

    def __init__(self) -> None:
        super().__init__(z=2.5, alpha=0.97, warmup_steps=25, max_norm=1.0)

    def update(self, norm: float) -> None:
        """Learns from the raw norm of the step just judged."""
        if not 0.0 < norm < math.inf:
            return
        if self._warmup is not None:
            self._warmup.append(norm)
            if len(self._warmup) == self._warmup_steps:
                self._mean = sum(self._warmup) / len(self._warmup)
                self._var = sum((x - self._mean) ** 2 for x in self._warmup) / len(self._warmup)
                self._warmup = None
        else:
            fed = self._mean + self._reach() / (norm - self._mean) if norm > self._high else norm
            self._mean = self._alpha * self._mean + (1.0 - self._alpha) * fed
            self._var = self._alpha * self._var + (1.0 - self._alpha) * (fed - self._mean) ** 2
        self._refresh()

    def _shrink(self, norm: Tensor) -> Tensor:
        target = torch.full_like(norm, self.limit())
        if self._warmup is None:
            spike = self._mean + self._reach() / (norm - self._mean)
            target = torch.where(norm > self._high, torch.clamp(spike, max=self.limit()), target)
        return target / (norm + _EPS)

    def _reach(self) -> float:
        """z**2 sigma (sigma + eps): over ``norm - mean`` it is how far above the mean a spike is taken back to."""
        sigma = math.sqrt(self._var)
        return self._z**2 * sigma * (sigma + _EPS)

    def _refresh(self) -> None:
        if self._warmup is None:
            self._high = self._mean + self._z * (math.sqrt(self._var) + _EPS)
