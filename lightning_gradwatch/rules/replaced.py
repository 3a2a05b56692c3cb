# SPDX-License-Identifier: Apache-2.0
"""First steps that replaced the initial weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.depth import layers_of
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.per_parameter import PerParameter
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import GradientSnapshot

_FIRST = 10  # steps
_REPLACED = 0.5  # of its norm in one of them: no direction of the initialisation is left after two
_MATRICES = 0.5  # of all; a sixth have moved by 0.3 at most in the sound runs of the zoo
_TINY = 0.01  # of the norm that usual initialisations give; such weights are meant to be replaced
_RATE = 5  # row of the remedy table


class Replaced:
    """Finds a training whose first steps replaced its weights, after which a plateau may look like any other.

    Within the first ten steps half of the matrices moved by more than half of their norm in one step: a warning. An
    alarm if after two windows the loss is still at its start, or makes no progress above half of it.

    Assumes that a sound training keeps most of its initial weights for ten steps. Weights of about 0 are left out. An
    optimizer that finds its rate by itself tries rates in those steps: it gets the alarm, not the warning.

    Args:
        losses: Asked at the end of the second window, and of the third and fourth.
        window: Optimizer steps.
        finds_rate: Whether the optimizer finds its rate by itself.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50, finds_rate: bool = False) -> None:
        self.window = window
        self.finds_rate = finds_rate
        self._losses = losses
        self._latch = Hysteresis()
        self._memory = PerParameter(1)  # largest relative update of the first steps
        self._steps = 0

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Remembers the updates of the first steps, and looks at the ends of windows."""
        self._steps += 1
        if self._steps <= _FIRST + 1:
            self._remember(snapshot)
            early = self._steps == _FIRST + 1 and not self.finds_rate
            return self._look(snapshot, Severity.WARNING) if early else []
        windows, rest = divmod(self._steps, self.window)
        late = not rest and 2 <= windows <= 4 and not self._latch.worst
        return self._look(snapshot, Severity.ALARM) if late else []

    def state_dict(self) -> dict[str, Any]:
        """The updates of the first steps by name, and what was reported."""
        return {"steps": self._steps, "memory": self._memory.state_dict(), "latch": self._latch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps = state["steps"]
        self._memory.load_state_dict(state["memory"])
        self._latch.load_state_dict(state["latch"])

    def _remember(self, snapshot: GradientSnapshot) -> None:
        ratios, norms = snapshot.update_ratios, snapshot.weight_norms
        if ratios is None or norms is None:
            return
        usual = np.array([shape[0] if shape else 1 for shape in snapshot.layout.shapes]) ** 0.5
        counts = snapshot.layout.matrix & np.isfinite(ratios) & (norms > _TINY * usual)
        largest = self._memory.align(snapshot.layout)[0]
        largest[counts] = np.maximum(largest, np.nan_to_num(ratios))[counts]

    def _look(self, snapshot: GradientSnapshot, severity: Severity) -> list[GradientEvent]:
        largest = self._memory.align(snapshot.layout)[0]
        matrices = max(1, int(np.count_nonzero(snapshot.layout.matrix)))
        replaced = np.flatnonzero(largest > _REPLACED)
        if len(replaced) < _MATRICES * matrices or (severity is Severity.ALARM and not self._plateau()):
            return []
        if not self._latch.passes(self._steps, severity):
            return []
        order = replaced[np.argsort(-largest[replaced], kind="stable")]
        first = f"the first steps replaced the initial weights of {len(replaced)} of {matrices} matrices"
        worst = f"{snapshot.layout.layer(int(order[0]))} moved by {number(largest[order[0]])}x its norm in one step"
        return [
            event(
                snapshot,
                EventKind.UPDATE_TOO_LARGE,
                severity,
                _RATE,
                layers=layers_of(snapshot, order),
                value=float(largest[order[0]]),
                limit=_REPLACED,
                message=f"{first}: {worst}\n{self._losses.line()}",
            )
        ]

    def _plateau(self) -> bool:
        """Whether the loss has got nowhere since."""
        left = self._losses.share_of_start()
        high = left is not None and left > 0.5
        return bool(self._losses.at_start() or (high and self._losses.stuck()))
