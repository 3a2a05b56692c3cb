# SPDX-License-Identifier: Apache-2.0
"""ZClip as published, for comparison."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lightning_gradwatch.laws.zscore import ZScoreClip

_EPS = 1e-6


class PublishedZClip(ZScoreClip):
    """ZClip step by step: z 2.5, alpha 0.97, 25 steps of warm-up, and never above norm 1.

    Source: Kumar et al. 2025, arXiv 2504.02507, mode "zscore" with "adaptive_scaling".
    We differ: norms that are zero or not finite are ignored; there, the first one ends all clipping.
    As there, unlike `ZScoreClip`: the statistics are those of the norm itself and are fed with clipped values, so that
    a lasting rise by more than about 8 standard deviations is clipped for ever; only `max_norm` limits in the warm-up.
    """

    exact: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(z=2.5, alpha=0.97, warmup_steps=25, max_norm=1.0)

    def __repr__(self) -> str:
        return "ZScoreClip.published()"

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
