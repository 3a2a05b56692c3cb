# SPDX-License-Identifier: Apache-2.0
"""Steps that hardly move the weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.rule import event, usable
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import Floats, GradientSnapshot

_LOOKS = 3  # measured steps
_HIGH_RATE = 0.3  # of the highest learning rate so far: below it the schedule means the training to be slow
_SLOW = 20  # row of the remedy table
_SEVERITY = {True: Severity.ALARM, False: None, None: Severity.WARNING}


class Stalled:
    """Finds a training whose relative updates are tiny throughout, without progress.

    The median over the parameters that have a gradient must stay below `ratio` for a window, at a learning rate that
    has not risen within the window (no warm-up) and is at least 0.3 of the highest so far. Clears at three times the
    ratio.

    Args:
        losses: Asked while the condition holds: progress, or a loss near 0, means that nothing is wrong.
        window: Optimizer steps; verdicts begin after two of them.
        ratio: Norm of the change over norm of the weights, per step.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50, ratio: float = 1e-6, patience: int = 1) -> None:
        self.window = window
        self.ratio = ratio
        self._losses = losses
        self._latch = Hysteresis(patience)
        self._steps = 0
        self._since: int | None = None
        self._looks = 0
        self._rose = 0  # own step at which the learning rate last rose
        self._lr: float | None = None
        self._highest = 0.0

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks at the updates of the step before."""
        if usable(snapshot) is None:
            return []
        self._steps += 1
        self._watch_rate(snapshot.lr)
        ratios = snapshot.update_ratios
        if ratios is None:
            return []
        if not (ratios < 3 * self.ratio).any():
            return self._moving()
        ratios = ratios[(ratios >= 0) & (snapshot.norms > 0)]
        return self._look(snapshot, ratios) if len(ratios) else []

    def state_dict(self) -> dict[str, Any]:
        """Counts and learning rates."""
        names = ("_steps", "_since", "_looks", "_rose", "_lr", "_highest")
        return {**{name[1:]: getattr(self, name) for name in names}, "latch": self._latch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._since, self._looks = state["steps"], state["since"], state["looks"]
        self._rose, self._lr, self._highest = state["rose"], state["lr"], state["highest"]
        self._latch.load_state_dict(state["latch"])

    def _watch_rate(self, lr: float | None) -> None:
        if lr is None:
            return
        if self._lr is not None and lr > self._lr:
            self._rose = self._steps
        self._lr = lr
        self._highest = max(self._highest, lr)

    def _moving(self) -> list[GradientEvent]:
        self._since, self._looks = None, 0
        self._latch.clear()
        return []

    def _look(self, snapshot: GradientSnapshot, ratios: Floats) -> list[GradientEvent]:
        typical = float(np.median(ratios))
        if typical > 3 * self.ratio:
            return self._moving()
        if not typical < self.ratio:
            self._since, self._looks = None, 0
            return []
        self._since = self._steps if self._since is None else self._since
        self._looks += 1
        asked = self._lasts() and not self._latch.worst
        severity = _SEVERITY[self._losses.stuck()] if asked else None
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        return [self._found(snapshot, severity, typical, len(ratios))]

    def _lasts(self) -> bool:
        """Whether it has gone on for long enough, at a learning rate that should move things."""
        assert self._since is not None
        long = self._steps >= 2 * self.window and self._steps - self._since >= self.window and self._looks >= _LOOKS
        steady = self._steps - self._rose >= self.window
        return long and steady and (self._lr is None or self._lr >= _HIGH_RATE * self._highest)

    def _found(self, snapshot: GradientSnapshot, severity: Severity, typical: float, count: int) -> GradientEvent:
        first = f"weights move by {number(typical)} of their norm, limit {number(self.ratio)}"
        return event(
            snapshot,
            EventKind.STALLED,
            severity,
            _SLOW,
            layers=(),
            value=typical,
            limit=self.ratio,
            message=f"{first} (median of {count})\n{self._losses.line()}",
        )
