# SPDX-License-Identifier: Apache-2.0
"""Limits the learning rate of Adam-like optimizers, which gradient clipping cannot slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.laws.trust_ratio import LEAST_RMS
from lightning_gradwatch.lr.known import known_rate
from lightning_gradwatch.snapshot import Floats, ParameterInfo

FLOOR = 1 / 15
"""However large the predicted update, this share of the limit is left, so that the run goes on."""


class AdamLimit:
    """`TrustRatioClip` for optimizers that divide by the size of the gradients, as a limit for their learning rate.

    Adam, AdamW and their kin, and RMSprop move each entry by about the learning rate, at most, whatever the gradient
    (Kingma & Ba 2014, arXiv 1412.6980, section 2.1): a matrix of n entries by ``lr * sqrt(n)``, relative to its weights
    ``lr * sqrt(n) / |w|``. For other optimizers, how far a learning rate leads is measured first (`MeasuredUnit`). A
    group is judged by the middle one of its matrices, the lower of two. Of a ratio beyond the limit
    ``limit**2 / ratio`` is left, at least ``limit / 15``.

    Args:
        limit: Largest relative update that passes untouched, above 0.

    Attributes:
        ratios: [G] the relative updates that were asked about last; 0 for groups of other optimizers.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._weights: Floats | None = None
        self._slopes: list[float] = []
        self.ratios: list[float] = []

    def scales(
        self,
        layout: ParameterInfo,
        weights: Floats,
        settings: Sequence[Mapping[str, Any]],
        groups: Sequence[NDArray[np.intp]],
        units: Sequence[float],
        scale: float,
    ) -> list[float] | None:
        """[G] multipliers in (0, 1] for the learning rates of the groups; None where all of them are 1.

        Args:
            layout: Names and shapes.
            weights: [P] norms of the weights at a recent step.
            settings: ``optimizer.param_groups``.
            groups: The parameters of each group, as indices.
            units: [G] root mean square of an entry's change per learning rate: 1 for Adam; 0 for no limit.
            scale: What the learning rates are going to be multiplied by anyway.
        """
        if weights is not self._weights:
            rows = np.array([shape[0] if shape else 1 for shape in layout.shapes])
            ratios = np.sqrt(layout.numel) / np.maximum(weights, LEAST_RMS * np.sqrt(rows))
            self._slopes = [_middle(ratios[group[layout.matrix[group]]]) for group in groups]
            self._weights = weights
        parts = zip(settings, self._slopes, units, strict=True)
        self.ratios = [scale * known_rate(group) * slope * unit for group, slope, unit in parts]
        if max(self.ratios, default=0.0) <= self._limit:
            return None
        return [max(self._limit / x, FLOOR) * self._limit / x if x > self._limit else 1.0 for x in self.ratios]


def _middle(values: Floats) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2]) if len(values) else 0.0
