# SPDX-License-Identifier: Apache-2.0
"""Gradients that grow from layer to layer on their way to the input."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.depth import Indices, account, layers_of, sensitivities
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.rule import event, usable
from lightning_gradwatch.snapshot import Floats, GradientSnapshot

_EVERY = 5  # steps between two looks, and steps that the condition must hold
_LIMIT = 1e3  # first layer over the median of the last quarter
_STEADY = 2.0  # growth at each single layer that leaves no doubt
_FEWEST = 3  # matrices that make a depth
_TOO_LARGE = 21  # row of the remedy table


class ExplodingDepth:
    """Finds a loss that responds far more to the first layer than to the last ones.

    A warning once it has held for 5 steps, or at once if every single layer doubles it; an alarm when the loss makes no
    progress over the window. Clears at a third.

    Args:
        losses: Asked while the condition holds.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, patience: int = 1) -> None:
        self._losses = losses
        self._latch = Hysteresis(patience)
        self._steps = 0
        self._held = 0

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks at every fifth step, the first included."""
        if usable(snapshot) is None:
            return []
        self._steps += 1
        return self._look(snapshot) if (self._steps - 1) % _EVERY == 0 else []

    def state_dict(self) -> dict[str, Any]:
        """Counts, and what was reported."""
        return {"steps": self._steps, "held": self._held, "latch": self._latch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._held = state["steps"], state["held"]
        self._latch.load_state_dict(state["latch"])

    def _look(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        chosen, s = sensitivities(snapshot)
        if len(s) < _FEWEST:
            return []
        last = _median(s[-max(1, len(s) // 4) :])
        if not s[0] > _LIMIT * last:
            self._held = 0
            if not s[0] > _LIMIT / 3 * last:
                self._latch.clear()
            return []
        self._held += 1
        sure = self._held > 1 or bool(np.all(s[:-1] >= _STEADY * s[1:]))
        severity = self._severity() if sure and not self._latch.worst else None
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        return [self._found(snapshot, severity, chosen, s, last)]

    def _severity(self) -> Severity:
        return Severity.ALARM if self._losses.stuck() else Severity.WARNING

    def _found(
        self, snapshot: GradientSnapshot, severity: Severity, chosen: Indices, s: Floats, last: float
    ) -> GradientEvent:
        high = np.flatnonzero(s > _LIMIT * last)
        return event(
            snapshot,
            EventKind.EXPLOSION,
            severity,
            _TOO_LARGE,
            layers=layers_of(snapshot, chosen[high[np.argsort(-s[high], kind="stable")]]),
            value=float(s[0] / last),
            limit=_LIMIT,
            message=f"{account(snapshot, chosen, s, len(s) - 1, 0)}\n{self._losses.line()}",
            cause=f"layer factors above 1, multiplied over {len(layers_of(snapshot, chosen))} layers",
        )


def _median(s: Floats) -> float:
    """The upper of the two middle ones; a tenth of the time of numpy's."""
    middle = len(s) // 2
    return float(np.partition(s, middle)[middle])
