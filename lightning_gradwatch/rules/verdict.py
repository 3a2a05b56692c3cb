# SPDX-License-Identifier: Apache-2.0
"""One fault, one verdict: what another kind of finding already said of the same fault is not said again."""

from __future__ import annotations

from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity

_MEMORY = 500
"""Steps after which a fault is news again."""

_SAME_FAULT: dict[EventKind, tuple[EventKind, ...]] = {
    EventKind.DIVERGING: (EventKind.EXPLOSION, EventKind.UPDATE_TOO_LARGE, EventKind.OFF_SCALE),
    EventKind.EXPLOSION: (EventKind.DIVERGING,),
    EventKind.OFF_SCALE: (EventKind.UPDATE_TOO_LARGE, EventKind.EXPLOSION, EventKind.NONFINITE),
    EventKind.STALLED: (EventKind.OVERWRITTEN, EventKind.DEAD, EventKind.VANISHING, EventKind.DISCONNECTED),
}
"""By kind: those that explain it, if they were told as alarms before. The more exact statement wins over the vaguer."""

_OWN_LIMITS, _FIRST_STEPS = "limits", "replaced"


class Verdicts:
    """Weighs the findings of one set of rules."""

    def __init__(self) -> None:
        self._alarms: dict[EventKind, int] = {}
        self._first_by: dict[EventKind, str] = {}  # which rule told a kind first

    def admit(self, rule: str, event: GradientEvent) -> bool:
        """Whether a finding of the rule of this name is to be told; what breaks a limit of the user's always is."""
        if rule == _OWN_LIMITS:
            return True
        explains = [self._alarms[kind] for kind in _SAME_FAULT.get(event.kind, ()) if kind in self._alarms]
        if self._first_by.setdefault(event.kind, rule) != rule == _FIRST_STEPS:
            return False  # the steps themselves were told when they were taken
        if explains and event.step - max(explains) <= _MEMORY:
            return False
        if event.severity is Severity.ALARM:
            self._alarms[event.kind] = event.step
        return True

    def state_dict(self) -> dict[str, Any]:
        """The step of the latest alarm of each kind, and which rule told it first."""
        return {
            "alarms": {kind.value: step for kind, step in self._alarms.items()},
            "first_by": {kind.value: rule for kind, rule in self._first_by.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._alarms = {EventKind(kind): step for kind, step in state["alarms"].items()}
        self._first_by = {EventKind(kind): rule for kind, rule in state["first_by"].items()}
