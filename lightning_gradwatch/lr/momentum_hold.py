# SPDX-License-Identifier: Apache-2.0
"""Holds a learning rate that jumps until the old momentum is spent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_gradwatch.lr.known import known_rate, momentum_of
from lightning_gradwatch.snapshot import Floats

JUMP = 10.0
"""A rate that grows by more than this factor from one step to the next jumps. Updates of a sound run, 1e-3 of the
weights, can be borne ten times as large; warm-up, ramps and cycles grow by less per step."""


class MomentumHold:
    """Holds a rate that jumps, under SGD with momentum, until the momentum of before is spent.

    torch multiplies the whole momentum by the rate of the step (Goyal et al. 2017, arXiv 1706.02677, section 3): where
    that is 1,000 times the last one, a single step moves the weights 1,000 times as far in the old direction, and no
    clipping of this step's gradient can help. So where a rate grows more than tenfold from one step to the next, and
    the step would move all weights together by ``ratio = lr * v / |w|`` beyond the limit, the rate stays what it was
    for ``log(ratio / (limit * (1 - momentum))) / -log(momentum)`` steps: then what is left of the old momentum moves
    them by `limit`, all in all. v is a bound on its norm: the sum of the clipped norms, each times momentum per step.

    Args:
        limit: Largest relative update that passes untouched, above 0.

    Attributes:
        ratio: The relative update by the momentum, when it was last found to be beyond the limit.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._gathered = 0.0
        self._last: list[float] = []
        self._left = 0
        self.ratio = 0.0

    def scales(self, weights: Floats, settings: Sequence[Mapping[str, Any]], scale: float) -> list[float] | None:
        """[G] multipliers in [0, 1] for the learning rates of the groups at the coming step; None where all are 1.

        Args:
            weights: [P] norms of the weights at a recent step.
            settings: ``optimizer.param_groups``.
            scale: What the learning rates are going to be multiplied by anyway.
        """
        rates = [scale * known_rate(group) if momentum_of(group) else 0.0 for group in settings]
        if len(rates) != len(self._last):
            self._last, self._left = rates, 0
        jumps = [rate > JUMP * last for rate, last in zip(rates, self._last, strict=True)]
        if not any(jumps):
            self._left = 0
        elif not self._left:
            self._left = self._steps(max(rates) / max(float(np.linalg.norm(weights)), 1e-12), settings)
        if not self._left:
            self._last = rates
            return None
        self._left -= 1
        scales = [last / rate if rate > last else 1.0 for rate, last in zip(rates, self._last, strict=True)]
        if not self._left:
            self._last = rates  # whatever the momentum is now, it was gathered with this rate in view
        return scales

    def learn(self, settings: Sequence[Mapping[str, Any]], norm: float) -> None:
        """Takes in the norm of a gradient as the optimizer got it."""
        keep = max(map(momentum_of, settings), default=0.0)
        if keep and math.isfinite(norm):
            self._gathered = keep * self._gathered + norm

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        return {"gathered": self._gathered, "last": list(self._last), "left": self._left, "ratio": self.ratio}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken."""
        self._gathered, self._last = state["gathered"], list(state["last"])
        self._left, self.ratio = state["left"], state["ratio"]

    def _steps(self, rate: float, settings: Sequence[Mapping[str, Any]]) -> int:
        """How long to hold; 0 where the weights can bear it."""
        momentum, ratio = max(map(momentum_of, settings)), rate * self._gathered
        if not ratio > self._limit:
            return 0
        self.ratio = ratio
        return math.ceil(math.log(ratio / (self._limit * (1.0 - momentum))) / -math.log(momentum))
