# SPDX-License-Identifier: Apache-2.0
"""What the laws that learn have in common: which norms count, when they are armed, and how they follow a new level."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lightning_gradwatch.laws.base import Law

WARMUP_FACTOR = 10.0
"""While little is known, the limit is this times the median norm: healthy norms rise by less from the first steps to
the next ones (a recurrent network that begins to learn: by 7), and an explosion by orders of magnitude."""

USUAL_FACTOR = 4.0
"""Of what was learned until then, a norm this far from the median counts as one that is this far."""

STREAK = 50
"""So many unusual norms in a row are the usual ones. A limit that knows only its own clipped values never learns of a
new level (ZClip: 20,000 of 20,000 steps clipped after a rise from 1 to 3)."""


class AdaptiveLaw(Law):
    """A limit learned from past norms.

    * Armed from the second step: the first norm sets the scale, and until the warm-up is over the limit is 10 times the
      median of the norms so far. An explosion in the first steps, where most of them happen, is caught, and a run whose
      norms are large from the start is left alone.
    * Winsorised: a norm above what is usual is learned as the largest usual one, so that a burst cannot raise the limit
      over itself.
    * Never locked in: after 50 unusual norms in a row the memory starts anew from these 50, as they were.
    * Norms that are not finite, or exactly zero (a step without gradients), change nothing.
    """

    standalone: ClassVar[bool] = False

    def __init__(self) -> None:
        self._low, self._high = 0.0, math.inf  # what is usual; all that `_refresh` computes follows from the memory
        self._streak: list[float] = []  # the unusual norms since the last usual one

    def limit(self) -> float:
        """The largest usual norm."""
        return self._high

    def update(self, norm: float) -> None:
        """Learns from the raw norm of the step just judged."""
        if not 0.0 < norm < math.inf:
            return
        if self._low <= norm <= self._high:
            self._streak.clear()
        else:
            self._streak.append(norm)
        if len(self._streak) == STREAK:
            self._seed(self._streak)
            self._streak.clear()
        else:
            self._learn(norm)
        self._refresh()

    @abstractmethod
    def _learn(self, norm: float) -> None:
        """Takes one norm into the memory, winsorised."""

    @abstractmethod
    def _seed(self, norms: Sequence[float]) -> None:
        """Replaces the memory; the warm-up is over."""

    @abstractmethod
    def _refresh(self) -> None:
        """Computes `_low` and `_high` from the memory."""

    def _remember(self) -> dict[str, Any]:
        return {"streak": list(self._streak)}

    def _recall(self, state: Mapping[str, Any]) -> None:
        self._streak = saved_norms(state["streak"])


def lower_median(ordered: Sequence[float]) -> float:
    """The median of sorted values, of two middle ones the lower: one huge value of two must not become the scale."""
    return ordered[(len(ordered) - 1) // 2]


def saved_norms(values: object) -> list[float]:
    """A list of norms out of a state.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(values, list) or not all(isinstance(x, float) and 0.0 < x < math.inf for x in values):
        raise ValueError(f"no list of finite norms above 0: {values!r}")
    return list(values)
