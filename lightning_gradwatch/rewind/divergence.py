# SPDX-License-Identifier: Apache-2.0
"""Are the weights past help, or was it only a bad batch? Decides when a run goes back."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.loss_history import LossHistory, Reduce
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import GradientSnapshot, by_layer

REPLACED = 10.0
"""A matrix that moved in one step by so many times its norm: of the old weights nothing is left."""

_NONFINITE_IN_A_ROW = 3  # steps without a finite gradient, whatever the batch
_OPENS = (EventKind.SPIKE, EventKind.EXPLOSION, EventKind.UPDATE_TOO_LARGE, EventKind.NONFINITE)
_HARMLESS = (EventKind.NONFINITE, Severity.WARNING)  # the loss alone


@dataclass(frozen=True, slots=True)
class Verdict:
    """The weights are ruined.

    Attributes:
        reason: What proves it, in a few words.
        event: The alarm that told; None where nothing did.
    """

    reason: str
    event: GradientEvent | None


class DivergenceDetector:
    """Hears the alarms of one optimizer and says when they mean that its weights are ruined.

    At once: one step moved a matrix by 10 times its norm; layers died that had a gradient at the first step; 3 steps in
    a row had no finite gradient, or a GradScaler is stuck. If there has been no finite one since the weights were last
    put back, it is the data.

    After `recovery_steps`: a spike, growth, a large update or a non-finite gradient was told, and the loss of the last
    half of these steps lies above what it was when the weights were known to be good, by 20 % and more than its noise
    (`LossHistory.rising`). Where there was only a warning, it must lie above what it was before the warning too: a loss
    that has been drifting is no proof. A loss that came back by itself ends the suspicion.

    All of it is scale-free. The loss alone proves nothing, and is asked for only while there is a suspicion, so that
    all ranks ask together.

    Args:
        recovery_steps: Optimizer steps after an alarm in which the loss may come back by itself.
        window: Optimizer steps whose losses make what it was.
        reduce: As in `LossHistory`.
    """

    def __init__(self, recovery_steps: int = 30, window: int = 50, reduce: Reduce | None = None) -> None:
        self.recovery_steps = recovery_steps
        self.losses = LossHistory(window, reduce)
        self._good: list[float] = []
        self._proof: Verdict | None = None
        self._alarm: GradientEvent | None = None
        self._alive: frozenset[str] | None = None
        self._before: list[float] = []
        self._since = 0
        self._nonfinite: GradientEvent | None = None
        self._in_a_row = 0
        self._sound = False

    @property
    def suspects(self) -> bool:
        """Whether something is wrong that may yet turn out to be nothing."""
        return self._alarm is not None or self._proof is not None

    @property
    def nonfinite(self) -> GradientEvent | None:
        """What told that this step's gradient was not finite, so that the weights are worth a look."""
        return self._nonfinite

    def step(self, snapshot: GradientSnapshot) -> None:
        """An optimizer step, before its events."""
        finite = isfinite(snapshot.total)
        self._in_a_row = 0 if finite else self._in_a_row + 1
        self._sound |= finite
        self._nonfinite = None
        self._since += self._alarm is not None
        self.losses.update(snapshot.loss)
        if self._alive is None and finite:
            norms = by_layer(snapshot.layout, snapshot.norms)
            self._alive = frozenset(layer for layer, norm in zip(snapshot.layout.layers, norms, strict=True) if norm)

    def hear(self, event: GradientEvent) -> None:
        """An event of this step."""
        if event.severity is Severity.INFO or (event.kind, event.severity) == _HARMLESS:
            return
        if event.kind is EventKind.DEAD and event.severity is Severity.ALARM and self._died(event):
            self._proof = Verdict("layers that had a gradient have died", event)
        elif event.kind is EventKind.SCALER_STUCK and self._sound:
            self._proof = Verdict("the GradScaler finds no scale", event)
        elif event.kind is EventKind.UPDATE_TOO_LARGE and event.value >= REPLACED:
            self._proof = Verdict(f"a step moved weights by {number(event.value)}x their norm", event)
        elif event.kind in _OPENS:
            self._suspect(event)
        if event.kind is EventKind.NONFINITE:
            self._nonfinite = event
            if self._sound and self._in_a_row >= _NONFINITE_IN_A_ROW:
                self._proof = Verdict(f"no finite gradient in {_NONFINITE_IN_A_ROW} steps", event)

    def verdict(self) -> Verdict | None:
        """Whether the weights are ruined, after the events of a step; a collective where there are several ranks."""
        if self._proof is not None or self._alarm is None or self._since < self.recovery_steps:
            return self._proof
        event, self._alarm = self._alarm, None
        diverged = self._diverged(warned=event.severity is Severity.WARNING)
        return Verdict(f"the loss has not come back in {self.recovery_steps} steps", event) if diverged else None

    def good(self, state: dict[str, Any]) -> None:
        """The weights of when `state` was taken have proved good."""
        self._good = list(state["recent"])[-self.losses.window :]

    def state_dict(self) -> dict[str, Any]:
        """The losses; a suspicion is not kept."""
        return self.losses.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """The weights are again those of then, None for the very first, and above suspicion."""
        self.losses.load_state_dict({"start": [], "recent": []} if state is None else state)
        self._proof = self._alarm = self._nonfinite = self._alive = None
        self._in_a_row, self._sound = 0, False

    def _suspect(self, event: GradientEvent) -> None:
        if self._alarm is None:
            self._since = 0
            self._before = self.losses.last(self.losses.window + 1)[:-1]
            self._alarm = event
        elif event.severity is Severity.ALARM and self._alarm.severity is not Severity.ALARM:
            self._alarm = event

    def _died(self, event: GradientEvent) -> bool:
        return self._alive is not None and not self._alive.isdisjoint(event.layers)

    def _diverged(self, *, warned: bool) -> bool:
        steps = max(self.recovery_steps // 2, 1)
        above = self.losses.above(self._good or self._before, steps)
        return bool(above and (not warned or self.losses.above(self._before, steps)))
