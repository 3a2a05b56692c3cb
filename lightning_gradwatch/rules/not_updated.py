# SPDX-License-Identifier: Apache-2.0
"""Weights that stay although there is a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent
from lightning_gradwatch.rules.culprits import news
from lightning_gradwatch.rules.depth import layers_of
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.per_parameter import PerParameter
from lightning_gradwatch.rules.rule import event, usable
from lightning_gradwatch.rules.text import listed
from lightning_gradwatch.snapshot import Floats, GradientSnapshot

_LOOKS = 3  # measured steps
_LEAST_SHARE = 1e-3
_LEFT_OUT = 19  # row of the remedy table


class NotUpdated:
    """Finds parameters with a gradient whose every measured update is exactly 0.

    The gradient meant is that of the step whose update was measured: heads that take turns have none every other step.
    One below 1e-3 of the largest is left out: its update may be lost in rounding, and the fault lies elsewhere.
    The step after a non-finite one is left out, since its update may have been skipped, and steps at which the learning
    rate is 0.

    Args:
        losses: Asked once there is a finding.
        steps: Optimizer steps from the first of at least three such measurements to the last.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, steps: int = 50, patience: int = 1) -> None:
        self.steps = steps + patience - 1
        self._losses = losses
        self._memory = PerParameter(3)  # own step of the first measurement, measurements, what was reported
        self._steps = 0
        self._still = False  # whether any count is running
        self._sound = True  # whether the step before was finite
        self._before: Floats | None = None  # [P] norms of the step before

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks at the updates of the step before."""
        sound, self._sound = self._sound, usable(snapshot) is not None
        if not self._sound:
            return []
        self._steps += 1
        ratios, before, self._before = snapshot.update_ratios, self._before, snapshot.norms
        if ratios is None or not sound or snapshot.lr == 0 or before is None or len(before) != len(ratios):
            return []
        # NaN is not 0: `all` asks for a zero.
        return self._look(snapshot, ratios, before) if self._still or not ratios.all() else []

    def state_dict(self) -> dict[str, Any]:
        """Counts by name."""
        counts = {"steps": self._steps, "still": self._still, "sound": self._sound}
        before = None if self._before is None else self._before.tolist()
        return {"memory": self._memory.state_dict(), "before": before, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._memory.load_state_dict(state["memory"])
        self._steps, self._still, self._sound = state["steps"], state["still"], state["sound"]
        before = state.get("before")
        self._before = None if before is None else np.array(before, dtype=np.float64)

    def _look(self, snapshot: GradientSnapshot, ratios: Floats, before: Floats) -> list[GradientEvent]:
        zero = (ratios == 0) & (before > _LEAST_SHARE * before.max())
        first, looks, reported = table = self._memory.align(snapshot.layout)
        first[zero & (looks == 0)] = self._steps
        looks[zero] += 1
        table[:2, ratios > 0] = 0
        self._still = bool(looks.any())
        lasting = (looks >= _LOOKS) & (self._steps - first + 1 >= self.steps)
        found = news(snapshot, lasting, reported, self._losses)
        if found is None:
            return []
        severity, new = found
        layers, count = layers_of(snapshot, new), int((self._steps - first[new] + 1).min())
        return [
            event(
                snapshot,
                EventKind.NOT_UPDATED,
                severity,
                _LEFT_OUT,
                layers=layers,
                value=count,
                limit=self.steps,
                message=f"weights unchanged for {count} steps in {listed(layers)}\n{self._losses.line()}",
            )
        ]
