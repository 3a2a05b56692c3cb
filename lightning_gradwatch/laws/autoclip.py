# SPDX-License-Identifier: Apache-2.0
"""AutoClip as published, for comparison."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gradwatch.laws.adaptive import saved_norms
from lightning_gradwatch.laws.percentile import PercentileClip

_EPS = 1e-6


class PublishedAutoClip(PercentileClip):
    """AutoClip step by step: the norm is limited to a percentile of all norms so far, this one included.

    Source: Seetharaman et al. 2020, arXiv 2007.14469, section 2.
    We differ: norms that are zero or not finite are ignored; there, one NaN ends the run.
    As there, unlike `PercentileClip`: the whole history counts, as it was, so that early norms are never forgotten, and
    memory and checkpoint grow by 8 bytes per step.

    Args:
        percentile: In [0, 100]; 10 is the paper's, which clips most steps on purpose.
    """

    exact: ClassVar[bool] = True

    def __init__(self, percentile: float = 10.0) -> None:
        super().__init__(percentile=percentile, factor=1.0)

    def __repr__(self) -> str:
        return f"PercentileClip.published(percentile={self._percentile!r})"

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
