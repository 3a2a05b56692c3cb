# SPDX-License-Identifier: Apache-2.0
"""Steps that move the weights too far."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.depth import Indices, layers_of
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.per_parameter import PerParameter
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import Bools, Floats, GradientSnapshot, ParameterInfo

_IN_A_ROW = 3  # measured steps
_MATRICES = 0.3  # of all that have a gradient
_HARD = 20.0  # times the limit: one such step is enough
_CLEAR = 0.2  # of the limit
_TINY = 0.01  # of the norm that usual initialisations give
_PAST = 50  # steps after which a measurement says nothing any more
_GRACE = 10  # steps for weights that start at about 0 to find their size
_RATE, _DATA = 5, 6  # rows of the remedy table
_FIRST_STEPS = 3


class UpdateTooLarge:
    """Finds relative updates of matrices above the limit.

    Three measured steps in a row in 30 % of the matrices, or one step of one matrix at 20 times the limit.

    A warning while the loss improves or is not known; an alarm where it does not, and for a single huge step. It
    clears when fewer than 30 % are above a fifth of the limit and none is above the limit.

    Weights that are about 0 make any update look large (zero-initialised branches, LoRA's B). So a matrix is left out
    for 10 steps after its norm was below 1 % of sqrt(rows), which is the norm that entries of variance 1/columns
    give.

    Args:
        losses: Asked while the condition holds.
        limit: Norm of the change over norm of the weights, per step.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, limit: float = 0.5, patience: int = 1) -> None:
        self.limit = limit
        self._losses = losses
        self._latch = Hysteresis(patience)
        # Large ones in a row, last ratio, own step of it, own step up to which the matrix is left out (0: not met yet).
        self._memory = PerParameter(4)
        self._steps = 0
        self._hot = False  # whether the memory says anything but "all is well"
        self._layout: ParameterInfo | None = None
        self._usual: Floats = np.zeros(0)

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks at the updates of the step before: also where it left a gradient of NaN or of exactly 0."""
        self._steps += 1
        if snapshot.layout is not self._layout:
            self._meet(snapshot)
        ratios = snapshot.update_ratios
        if ratios is None or not (self._hot or (ratios > self.limit).any()):
            return []
        return self._look(snapshot, ratios)

    def state_dict(self) -> dict[str, Any]:
        """What is known of each matrix, and what was reported."""
        return {
            "steps": self._steps,
            "hot": self._hot,
            "memory": self._memory.state_dict(),
            "latch": self._latch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._hot, self._layout = state["steps"], state["hot"], None
        self._memory.load_state_dict(state["memory"])
        self._latch.load_state_dict(state["latch"])

    def _meet(self, snapshot: GradientSnapshot) -> None:
        """Looks at parameters that are new for weights of about 0."""
        self._layout = snapshot.layout
        self._usual = np.array([shape[0] if shape else 1 for shape in snapshot.layout.shapes]) ** 0.5
        left_out = self._memory.align(snapshot.layout)[3]
        new = left_out == 0
        left_out[new] = np.where(self._tiny(snapshot), self._steps + _GRACE, -1)[new]

    def _tiny(self, snapshot: GradientSnapshot) -> Bools:
        norms = snapshot.weight_norms
        return np.zeros(len(self._usual), dtype=bool) if norms is None else norms < _TINY * self._usual

    def _look(self, snapshot: GradientSnapshot, ratios: Floats) -> list[GradientEvent]:
        in_a_row, last, when, left_out = table = self._memory.align(snapshot.layout)
        table[:2, when < self._steps - _PAST] = 0
        left_out[self._tiny(snapshot)] = self._steps + _GRACE
        judged = snapshot.layout.matrix & (ratios < inf) & (left_out < self._steps)
        if not last.any():
            self._latch.clear()
        last[judged], when[judged] = ratios[judged], self._steps
        in_a_row[judged] = np.where(ratios[judged] > self.limit, in_a_row[judged] + 1, 0)
        hard = judged & (ratios > _HARD * self.limit)
        large = hard | (in_a_row >= _IN_A_ROW)
        many = max(_MATRICES * np.count_nonzero(snapshot.layout.matrix & snapshot.present), 1)
        severity = None
        if hard.any() or np.count_nonzero(large) >= many:
            severity = self._severity(hard=bool(hard.any()))
        elif np.count_nonzero(last > _CLEAR * self.limit) < many and not (last > self.limit).any():
            last[:] = 0
            self._latch.clear()
        self._hot = bool(last.any() or in_a_row.any())
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        worst = np.flatnonzero(large)
        worst = worst[np.argsort(-last[worst], kind="stable")]
        return [self._found(snapshot, severity, worst, last, hard=bool(hard.any()))]

    def _severity(self, *, hard: bool) -> Severity:
        alarm = hard or self._latch.worst or self._losses.improved() is False
        return Severity.ALARM if alarm else Severity.WARNING

    def _found(
        self, snapshot: GradientSnapshot, severity: Severity, worst: Indices, ratios: Floats, *, hard: bool
    ) -> GradientEvent:
        matrices = np.count_nonzero(snapshot.layout.matrix & snapshot.present)
        first = f"weights moved by {number(ratios[worst[0]])}x their norm, limit {number(self.limit)}"
        places = ", ".join(f"{snapshot.layout.layer(i)} x{number(ratios[i])}" for i in worst[:3].tolist())
        return event(
            snapshot,
            EventKind.UPDATE_TOO_LARGE,
            severity,
            _DATA if hard and snapshot.step <= _FIRST_STEPS else _RATE,
            layers=layers_of(snapshot, worst),
            value=ratios[worst[0]],
            limit=self.limit,
            message=f"{first}\nwhere: {places} ({len(worst)} of {matrices} matrices)\n{self._losses.line()}",
        )
