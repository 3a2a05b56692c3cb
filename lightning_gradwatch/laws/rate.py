# SPDX-License-Identifier: Apache-2.0
"""What the weights can bear, for optimizers to which a smaller gradient is all the same: a limit for their rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.laws.update import LEAST_RMS, known_rate
from lightning_gradwatch.snapshot import Floats, Layout

FLOOR = 1 / 15
"""However large the predicted update, this share of the limit is left, so that the run goes on."""


class RateLimit:
    """`UpdateLimit` for optimizers that divide by the size of the gradients, as a limit for their learning rate.

    Adam, AdamW and their kin, and RMSprop move each entry by about the learning rate, at most, whatever the gradient
    (Kingma & Ba 2014, arXiv 1412.6980, section 2.1): a matrix of n entries by ``lr * sqrt(n)``, relative to its weights
    ``lr * sqrt(n) / |w|``. A group is judged by the middle one of its matrices, the lower of two. Of a ratio beyond
    the limit ``limit**2 / ratio`` is left, at least ``limit / 15``.

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
        layout: Layout,
        weights: Floats,
        settings: Sequence[Mapping[str, Any]],
        groups: Sequence[NDArray[np.intp]],
        scale: float,
    ) -> list[float] | None:
        """[G] multipliers in (0, 1] for the learning rates of the groups; None where all of them are 1.

        Args:
            layout: Names and shapes.
            weights: [P] norms of the weights at a recent step.
            settings: ``optimizer.param_groups``.
            groups: The parameters of each group, as indices.
            scale: What the learning rates are going to be multiplied by anyway.
        """
        if weights is not self._weights:
            rows = np.array([shape[0] if shape else 1 for shape in layout.shapes])
            ratios = np.sqrt(layout.numel) / np.maximum(weights, LEAST_RMS * np.sqrt(rows))
            self._slopes = [_middle(ratios[group[layout.matrix[group]]]) for group in groups]
            self._weights = weights
        pairs = zip(settings, self._slopes, strict=True)
        self.ratios = [scale * known_rate(group) * slope if _divides(group) else 0.0 for group, slope in pairs]
        if max(self.ratios) <= self._limit:
            return None
        return [max(self._limit / x, FLOOR) * self._limit / x if x > self._limit else 1.0 for x in self.ratios]


def _middle(values: Floats) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2]) if len(values) else 0.0


def _divides(group: Mapping[str, Any]) -> bool:
    """Adam and its kin; RMSprop."""
    return "betas" in group or ("alpha" in group and "centered" in group)
