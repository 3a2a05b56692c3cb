# SPDX-License-Identifier: Apache-2.0
"""Steps that hardly move the weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.rate_course import RateCourse
from lightning_gradwatch.rules.rule import event, telling, usable
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import Floats, GradientSnapshot

_LOOKS = 3  # measured steps
_FEWEST = 0.1  # of them, that must have been measured by then
_KEPT = 20  # looks whose measurements count
_AT_START = 10.0  # times the ratio, for a loss that is still where it began
_PATIENT = 4  # windows that a rising rate is given
_FIRST_LOOK = 12  # steps within which the first look at the updates comes
_HIGH_RATE = 0.3  # of the highest learning rate so far: below it the schedule means the training to be slow
_SLOW, _SCHEDULE = 20, 29  # rows of the remedy table
_SEVERITY = {True: Severity.ALARM, False: None, None: Severity.WARNING}


class Stalled:
    """Finds a training whose steps have no effect, without progress.

    The median relative update over the matrices that have a gradient, without those of about 0, must stay below `ratio`
    for a window, or below ten times it where the loss is still at its start (a warning); at a learning rate that is at
    least 0.3 of the highest so far, or since the highest. One that rises is given four windows, and
    warned of. Clears at thirty times the ratio.

    A learning rate of nearly 0 is a finding by itself, since it is known exactly: at most 1e-4 of its peak for a window
    and a fifth of the run.

    Args:
        losses: Asked while the condition holds: progress, or a loss near 0, means that nothing is wrong.
        window: Optimizer steps; verdicts begin after two of them.
        ratio: Norm of the change over norm of the weights, per step.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50, ratio: float = 1e-6, patience: int = 1) -> None:
        self.window = window
        self.ratio = ratio
        self.course = RateCourse(window)
        self._losses = losses
        self._latch = Hysteresis(patience)
        self._steps = 0
        self._since: int | None = None
        self._looks: list[tuple[float, int]] = []  # median, and how many it is of
        self._idle = Hysteresis(patience)

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks at the rate of this step and at the updates of the step before."""
        self.course.take(snapshot.lr, snapshot.step)
        idle = self._rate(snapshot)
        if usable(snapshot) is None:
            return idle
        self._steps += 1
        ratios = snapshot.update_ratios
        if ratios is None:
            return idle
        if not (ratios < 3 * _AT_START * self.ratio).any():
            return idle + self._moving()
        tell = telling(snapshot)
        ratios = ratios[tell & (ratios >= 0) & (snapshot.norms > 0)]
        return idle + (self._look(snapshot, ratios, int(np.count_nonzero(tell))) if len(ratios) else [])

    def state_dict(self) -> dict[str, Any]:
        """Counts and learning rates."""
        return {
            "steps": self._steps,
            "since": self._since,
            "recent": [list(look) for look in self._looks],
            "course": self.course.state_dict(),
            "latch": self._latch.state_dict(),
            "idle": self._idle.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken; of an older version, afresh but for what was told."""
        self._latch.load_state_dict(state["latch"])
        if "course" in state:
            self._steps, self._since = state["steps"], state["since"]
            self._looks = [(float(middle), int(count)) for middle, count in state["recent"]]
            self.course.load_state_dict(state["course"])
            self._idle.load_state_dict(state["idle"])

    def _rate(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Whether the rate itself is nearly 0."""
        steps = self.course.idle
        if not steps:
            self._idle.clear()
            return []
        severity = None if self._idle.worst else _SEVERITY[self._losses.stuck()]
        if not self._idle.passes(self.course.steps, severity) or severity is None:
            return []
        peak = self.course.peak
        first = f"{self.course.line()}, {steps} steps ago"
        return [
            event(
                snapshot,
                EventKind.STALLED,
                severity,
                _SCHEDULE,
                layers=(),
                value=(self.course.now or 0.0) / peak if peak else 0.0,
                limit=1e-4,
                message=f"{first}\n{self._losses.line()}",
                cause=f"the learning rate's schedule: {self.course.line()}",
            )
        ]

    def _moving(self) -> list[GradientEvent]:
        self._since, self._looks = None, []
        self._latch.clear()
        return []

    def _look(self, snapshot: GradientSnapshot, ratios: Floats, of: int) -> list[GradientEvent]:
        typical = float(np.median(ratios))
        if typical > 3 * _AT_START * self.ratio:
            return self._moving()
        if not typical < _AT_START * self.ratio:
            self._since, self._looks = None, []
            return []
        self._since = self._steps if self._since is None else self._since
        self._looks = [*self._looks[1 - _KEPT :], (typical, len(ratios))]
        asked = self._lasts(of) and not self._latch.worst and not self.course.idle
        severity = self._severity() if asked else None
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        return [self._found(snapshot, severity)]

    def _severity(self) -> Severity | None:
        severity = _SEVERITY[self._losses.stuck()]
        tiny = max(middle for middle, _ in self._looks) < self.ratio
        rising = self.course.rising
        if severity is None or (not tiny and (rising or not self._losses.at_start())):
            return None
        return severity if tiny and not rising else Severity.WARNING

    def _lasts(self, parameters: int) -> bool:
        """Whether it has gone on for long enough, at a learning rate that should move things."""
        assert self._since is not None
        long = self._steps >= 2 * self.window and self._steps - self._since >= self.window
        looked = len(self._looks) >= _LOOKS and sum(count for _, count in self._looks) >= _FEWEST * parameters
        patient = not self.course.rising or self._steps >= _PATIENT * self.window
        now, peak = self.course.now, self.course.peak
        # Where the highest rate moved nothing either, a lower one is no excuse.
        high = now is None or now >= _HIGH_RATE * peak or self._since <= self.course.peaked + _FIRST_LOOK
        return long and looked and patient and high

    def _found(self, snapshot: GradientSnapshot, severity: Severity) -> GradientEvent:
        """The verdict over all looks."""
        typical = float(np.median([middle for middle, _ in self._looks]))
        limit = self.ratio if typical < self.ratio else _AT_START * self.ratio
        first = f"weights move by {number(typical)} of their norm, limit {number(limit)}"
        looks = f"({len(self._looks)} looks)"
        line = self.course.line()
        return event(
            snapshot,
            EventKind.STALLED,
            severity,
            _SCHEDULE if self.course.rising else _SLOW,
            layers=(),
            value=typical,
            limit=limit,
            message=f"{first} {looks}\n{self._losses.line()}",
            cause=f"the learning rate's schedule: {line}" if self.course.rising else None,
        )
