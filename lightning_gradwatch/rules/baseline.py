# SPDX-License-Identifier: Apache-2.0
"""What is normal for the norm of one run's gradients."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import inf, log
from typing import Any

from lightning_gradwatch.rules.quantile import RunQuantile

_LEAST_MAD = 0.15  # of log norms: a constant norm must not make every change a spike
RESEED = 5  # steps that make a new level


class Baseline:
    """Median, spread and upper decile of norms, on a log scale.

    Norms are kept as they are and logarithms are taken of ratios only: so all of it is scale-free to the last bit.

    Args:
        window: Norms that median and spread speak of.

    Attributes:
        count: Norms taken since the start or the last re-seeding.
    """

    def __init__(self, window: int = 50) -> None:
        self.window = window
        self.count = 0
        self._run = RunQuantile(0.1)
        self._ring: deque[float] = deque()
        self._sorted: list[float] = []
        self._raw: deque[float] = deque(maxlen=RESEED)

    @property
    def median(self) -> float:
        """Median norm of the window; the upper of the two middle ones."""
        return self._sorted[len(self._sorted) // 2]

    @property
    def spread(self) -> float:
        """Robust standard deviation of log norms within the window; the median deviation counts as at least 0.15."""
        middle = self.median
        deviations = sorted(abs(log(norm / middle)) for norm in self._sorted)
        return 1.4826 * max(deviations[len(deviations) // 2], _LEAST_MAD)

    @property
    def q90(self) -> float:
        """The level that one step in ten of the whole run has reached, to 9 %; 0 for the first 16 steps."""
        return self._run.value

    def update(self, norm: float, limit: float = inf) -> None:
        """Takes a raw norm, winsorised: at most as `limit`. Non-finite and zero norms change nothing."""
        if not 0 < norm < inf:
            return
        self._raw.append(norm)
        self._take(min(norm, limit))

    def reseed(self) -> None:
        """Forgets the window and starts again from the last 5 raw norms: the level has changed for good."""
        self._ring.clear()
        self._sorted.clear()
        self.count = 0
        for norm in self._raw:
            self._take(norm)

    def state_dict(self) -> dict[str, Any]:
        """All norms that are kept."""
        return {"count": self.count, "ring": list(self._ring), "raw": list(self._raw), "run": self._run.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self.count = state["count"]
        self._ring = deque(state["ring"])
        self._sorted = sorted(state["ring"])
        self._raw = deque(state["raw"], maxlen=RESEED)
        self._run.load_state_dict(state["run"])

    def _take(self, norm: float) -> None:
        while len(self._ring) >= self.window:
            del self._sorted[bisect_left(self._sorted, self._ring.popleft())]
        self._ring.append(norm)
        insort(self._sorted, norm)
        self._run.add(norm)
        self.count += 1
