# SPDX-License-Identifier: Apache-2.0
"""Gradients that fade or grow on their way back through time, in recurrent layers."""

from __future__ import annotations

from math import isfinite
from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.probe_reading import ProbeReading, ProbeRule
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import listed, number
from lightning_gradwatch.snapshot import GradientSnapshot

_LOOKS = 3  # that make a verdict
_SEVERITY = {True: Severity.ALARM, False: None, None: Severity.WARNING}


class _ThroughTime(ProbeRule):
    """Judges the profile over time by its ends: the first tenth of the steps against the last.

    Every look of the last window must be beyond the limit, while the training makes no progress: LSTM and GRU start at
    1e-6 to 1e-8 and leave that by learning.

    Args:
        losses: Asked while the condition holds.
        window: Optimizer steps to look back.
        limit: Base-10 logarithm of the ratio; beyond it is bad.
        windows: Verdicts begin after so many.
    """

    kind: EventKind
    row: int
    verb: str

    def __init__(self, losses: LossHistory, *, window: int, limit: float, windows: int) -> None:
        self.window = window
        self.limit = limit
        self._first = windows * window
        self._losses = losses
        self._latch = Hysteresis()
        self._steps = 0
        self._last = -1
        self._looks: dict[str, list[tuple[int, float]]] = {}  # by layer: own step, logarithm

    def learn(self, look: ProbeReading) -> None:
        """Takes the profiles of one batch; those that are not known say nothing."""
        if look.at == self._last or not look.fading:
            return
        self._last = look.at
        for layer, value in look.fading.items():
            if isfinite(value):
                self._looks.setdefault(layer, []).append((self._steps, value))

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Counts steps, and judges where there is something to judge."""
        self._steps += 1
        if not self._looks:
            return []
        oldest = self._steps - self.window
        self._looks = {layer: [s for s in looks if s[0] >= oldest] for layer, looks in self._looks.items()}
        beyond = [layer for layer in snapshot.layout.layers if self._beyond(layer)]
        if not beyond:
            self._latch.clear()
        if self._steps < self._first or not beyond or self._latch.worst:
            return []
        severity = _SEVERITY[self._losses.stuck()]
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        return [self._found(snapshot, severity, sorted(beyond, key=self._least, reverse=True))]

    def state_dict(self) -> dict[str, Any]:
        """The looks of the last window, and what was reported."""
        looks = {layer: [list(sample) for sample in samples] for layer, samples in self._looks.items()}
        return {"steps": self._steps, "last": self._last, "looks": looks, "latch": self._latch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._last = state["steps"], state["last"]
        self._looks = {layer: [(int(s), float(v)) for s, v in samples] for layer, samples in state["looks"].items()}
        self._latch.load_state_dict(state["latch"])

    def _least(self, layer: str) -> float:
        """How far beyond 1, in the direction of the limit, even the mildest look of a layer is."""
        sign = 1 if self.limit > 0 else -1
        return min(sign * value for _, value in self._looks[layer])

    def _beyond(self, layer: str) -> bool:
        return len(self._looks.get(layer, ())) >= _LOOKS and self._least(layer) > abs(self.limit)

    def _found(self, snapshot: GradientSnapshot, severity: Severity, layers: list[str]) -> GradientEvent:
        worst = self._looks[layers[0]]
        value, limit = 10 ** worst[-1][1], 10**self.limit
        return event(
            snapshot,
            self.kind,
            severity,
            self.row,
            layers=layers,
            value=value,
            limit=limit,
            message=(
                f"gradient through time {self.verb} x{number(value)} from the last tenth of the sequence to the first"
                f" in {listed(layers)}, limit {number(limit)} ({len(worst)} batches)\n{self._losses.line()}"
            ),
        )


class VanishingInTime(_ThroughTime):
    """Finds recurrent layers whose early inputs get no gradient: less than 1e-6 of that of the late ones.

    Args:
        losses: Asked while the condition holds.
        window: Optimizer steps to look back; verdicts begin after two of them.
    """

    kind, row, verb = EventKind.VANISHING_IN_TIME, 3, "shrinks"

    def __init__(self, losses: LossHistory, *, window: int = 50) -> None:
        super().__init__(losses, window=window, limit=-6.0, windows=2)


class ExplodingInTime(_ThroughTime):
    """Finds recurrent layers whose early inputs get more than 1e6 times the gradient of the late ones.

    Args:
        losses: Asked while the condition holds.
        window: Optimizer steps to look back; verdicts begin after one of them.
    """

    kind, row, verb = EventKind.EXPLOSION, 4, "grows"

    def __init__(self, losses: LossHistory, *, window: int = 50) -> None:
        super().__init__(losses, window=window, limit=6.0, windows=1)
