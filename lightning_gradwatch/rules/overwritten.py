# SPDX-License-Identifier: Apache-2.0
"""Weights that somebody else moves between steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.depth import layers_of
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.per_parameter import PerParameter
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import listed, number
from lightning_gradwatch.snapshot import GradientSnapshot

_LOOKS = 3  # measured steps in a row
_UNDONE = 0.5  # of a step
_ELSEWHERE = 3.0  # lengths of a step
_MOVED = 30  # row of the remedy table
_SEVERITY = {True: Severity.ALARM, False: None, None: Severity.WARNING}


class Overwritten:
    """Finds weights that are not where the last step left them, in a training that makes no progress.

    Three measured steps in a row half of the step was undone, or the weights moved by three times its length.

    Assumes that what a sound training does to weights between steps (a projection, a limit, an exchange for averaged
    weights and back) neither undoes most of each step nor keeps the loss from falling.

    Args:
        losses: Asked once there is a finding.
        window: Optimizer steps; verdicts begin after one of them.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50, patience: int = 1) -> None:
        self.window = window
        self._losses = losses
        self._latch = Hysteresis(patience)
        self._memory = PerParameter(2)  # measured steps in a row: undone, moved
        self._steps = 0

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks where something was measured."""
        self._steps += 1
        undone, moved = snapshot.undone, snapshot.moved_since
        if undone is None or moved is None:
            return []
        counts = self._memory.align(snapshot.layout)
        known = np.isfinite(undone)
        with np.errstate(invalid="ignore"):
            counts[0, known] = np.where(undone > _UNDONE, counts[0] + 1, 0)[known]
            counts[1, known] = np.where(moved > _ELSEWHERE, counts[1] + 1, 0)[known]
        bad = (counts >= _LOOKS).any(axis=0)
        if not bad.any():
            if not counts.any():
                self._latch.clear()
            return []
        asked = self._steps >= self.window and not self._latch.worst
        severity = _SEVERITY[self._losses.stuck()] if asked else None
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        return [self._found(snapshot, severity)]

    def state_dict(self) -> dict[str, Any]:
        """Counts by name, and what was reported."""
        return {"steps": self._steps, "memory": self._memory.state_dict(), "latch": self._latch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps = state["steps"]
        self._memory.load_state_dict(state["memory"])
        self._latch.load_state_dict(state["latch"])

    def _found(self, snapshot: GradientSnapshot, severity: Severity) -> GradientEvent:
        assert snapshot.undone is not None
        assert snapshot.moved_since is not None
        undone, moved = self._memory.align(snapshot.layout) >= _LOOKS
        which = np.flatnonzero(undone) if undone.any() else np.flatnonzero(moved)
        values = (snapshot.undone if undone.any() else snapshot.moved_since)[which]
        value = float(np.nanmedian(values)) if np.isfinite(values).any() else 1.0
        layers = layers_of(snapshot, which)
        if undone.any():
            first = f"{value:.0%} of each step is undone before the next one in {listed(layers)}".replace("%", " %")
            cause = "the weights are put back between steps: an average, a copy or a state is written to them"
        else:
            first = f"between steps the weights move by {number(value)} times the step itself in {listed(layers)}"
            cause = "something else than the optimizer moves the weights between steps"
        return event(
            snapshot,
            EventKind.OVERWRITTEN,
            severity,
            _MOVED,
            layers=layers,
            value=value,
            limit=_UNDONE if undone.any() else _ELSEWHERE,
            message=f"{first}\n{self._losses.line()}",
            cause=cause,
        )
