# SPDX-License-Identifier: Apache-2.0
"""Norms that grow step by step."""

from __future__ import annotations

from collections import deque
from math import log
from statistics import median
from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.rule import blame, event, usable
from lightning_gradwatch.rules.text import number, where
from lightning_gradwatch.snapshot import Floats, GradientSnapshot

_EVERY = 5  # steps between two looks
_MOST_POINTS = 64  # for the slope, whose cost is quadratic
_UNSTABLE, _UNBOUNDED = 7, 25  # rows of the remedy table
_SEVERITY = {True: Severity.ALARM, False: None, None: Severity.WARNING}


class Growth:
    """Finds a norm that grew steadily by a factor within the window and stands that far above the early norms.

    An alarm if the loss rises with it or falls without bound, a warning if there is no loss, else nothing. Clears at a
    third.

    Args:
        losses: Asked once the norms have grown.
        window: Optimizer steps in which to grow, and norms that make the early median.
        factor: Growth, above 1.
        patience: Consecutive steps beyond the window.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50, factor: float = 30.0, patience: int = 1) -> None:
        self.window = window
        self.factor = factor
        self._losses = losses
        self._latch = Hysteresis(patience)
        self._steps = 0
        self._early: list[float] = []
        self._norms: deque[float] = deque(maxlen=window)

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Takes the norm in, and looks at the window at every fifth step."""
        norm = usable(snapshot)
        if norm is None:
            return []
        self._steps += 1
        self._norms.append(norm)
        if len(self._early) < self.window:
            self._early.append(norm)
        elif self._steps % _EVERY == 0:
            return self._look(snapshot, norm)
        return []

    def state_dict(self) -> dict[str, Any]:
        """The norms that are kept."""
        return {
            "steps": self._steps,
            "early": list(self._early),
            "norms": list(self._norms),
            "latch": self._latch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._early = state["steps"], list(state["early"])
        self._norms = deque(state["norms"], maxlen=self.window)
        self._latch.load_state_dict(state["latch"])

    def _look(self, snapshot: GradientSnapshot, norm: float) -> list[GradientEvent]:
        start = median(self._early)
        if norm <= self.factor / 3 * start:
            self._latch.clear()
            return []
        grown = norm > self.factor * start and _slope(self._norms, start) * self.window > log(self.factor)
        asked = grown and not self._latch.worst
        severity = _SEVERITY[self._losses.rising(self.window // 2)] if asked else None
        if asked and severity is None and self._losses.bottomless():
            severity = Severity.ALARM
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        return [self._grown(snapshot, severity, norm, start)]

    def _grown(self, snapshot: GradientSnapshot, severity: Severity, norm: float, start: float) -> GradientEvent:
        parts = blame(snapshot)
        times = float(np.exp(_slope(self._norms, start) * self.window))
        first = (
            f"grad norm grows x{number(times)} in {self.window} steps, to {number(norm)} (at the start {number(start)})"
        )
        return event(
            snapshot,
            EventKind.EXPLOSION,
            severity,
            _UNBOUNDED if self._losses.bottomless() else _UNSTABLE,
            layers=[layer for layer, _ in parts],
            value=times,
            limit=self.factor,
            message="\n".join([first, where(parts), self._losses.line()]),
        )


def _slope(norms: deque[float], unit: float) -> float:
    """Median slope over all pairs, of the logarithm per step.

    Source: Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 1968.
    """
    stride = -(-len(norms) // _MOST_POINTS)
    y: Floats = np.log(np.array(norms)[::stride] / unit)
    i, j = np.triu_indices(len(y), 1)
    return float(np.median((y[j] - y[i]) / (j - i))) / stride
