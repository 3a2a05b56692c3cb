# SPDX-License-Identifier: Apache-2.0
"""A loss function that gets probabilities for logits, shapes that broadcast, or answers that are all alike."""

from __future__ import annotations

from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.probe_reading import ProbeReading, ProbeRule
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import GradientSnapshot

_ALIKE = 1e-3  # of the size of the answers
_SOFTMAX, _SHAPES, _SAME = 35, 36, 37  # rows of the remedy table
_MOST_LOOKS = 10


class Misuse(ProbeRule):
    """Finds a loss function that is called with what it is not made for, and outputs that are the same for all inputs.

    Probabilities where logits are asked for, and shapes that broadcast to something larger, are exact and seen in the
    first batch. They are told after a window unless the loss has converged: a warning, an alarm if it is stuck.

    Answers that are all alike, to 1e-3 of their size, are looked for once per window while the loss is still at its
    start or gets no further, and are an alarm. A network that starts so, with a last layer of 0, has learnt better
    by then.

    Where they were alike in the first batch already, though its inputs are not, they are looked at after one window
    whatever the loss does: it may fall by what all targets have in common.

    Args:
        losses: Asked once per window.
        window: Optimizer steps.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50) -> None:
        self.window = window
        self._losses = losses
        self._misused = Hysteresis()
        self._same = Hysteresis()
        self._steps = 0
        self._asked = 0
        self._first: dict[str, float] = {}
        self._alike: float | None = None

    def learn(self, look: ProbeReading) -> None:
        """Takes what the first batch was, and how far answers differ now."""
        self._first = look.first or self._first
        if look.now is not None and self._asked:
            self._alike = look.now.get("alike")

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks once per window."""
        self._steps += 1
        self.wants_look = False
        if not self._first:
            return []
        if self._alike is not None:
            return self._judge_alike(snapshot)
        if self._steps % self.window or self._same.worst:
            return []
        known = "alike" in self._first and self._first.get("apart", 0.0) > _ALIKE and self._asked < _MOST_LOOKS
        if known and (self._from_the_start() or (self._steps >= 2 * self.window and self._rests())):
            self._asked += 1
            self.wants_look = True
        return self._judge_call(snapshot)

    def state_dict(self) -> dict[str, Any]:
        """Counts, what was seen, and what was reported."""
        return {
            "steps": self._steps,
            "asked": self._asked,
            "first": dict(self._first),
            "alike": self._alike,
            "wants": self.wants_look,
            "misused": self._misused.state_dict(),
            "same": self._same.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._asked, self._first = state["steps"], state["asked"], dict(state["first"])
        self._alike, self.wants_look = state["alike"], state["wants"]
        self._misused.load_state_dict(state["misused"])
        self._same.load_state_dict(state["same"])

    def _rests(self) -> bool:
        """Whether the loss is at its start, or gets no further."""
        return bool(self._losses.at_start() or self._losses.stuck())

    def _from_the_start(self) -> bool:
        return self._first.get("alike", 1.0) < _ALIKE

    def _judge_call(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        softmaxed = self._first.get("softmaxed", 0.0) == 1.0
        if not (softmaxed or self._first.get("outer", 0.0) == 1.0) or self._losses.converged():
            return []
        stuck = self._steps >= 2 * self.window and bool(self._losses.stuck())
        severity = Severity.ALARM if stuck else Severity.WARNING
        if self._misused.worst or not self._misused.passes(self._steps, severity):
            return []
        what = "the loss function takes logits and gets probabilities: each row is positive and adds up to 1"
        if not softmaxed:
            what = "the loss holds each answer against each target: their shapes broadcast to something larger"
        return [
            self._event(snapshot, EventKind.WRONG_LOSS, severity, _SOFTMAX if softmaxed else _SHAPES, what, 1.0, 0.0)
        ]

    def _judge_alike(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        alike, self._alike = self._alike, None
        if alike is None or not alike < _ALIKE:
            self._same.clear()
            return []
        severity = Severity.ALARM if self._rests() else Severity.WARNING if self._from_the_start() else None
        if not self._same.passes(self._steps, severity) or severity is None:
            return []
        what = f"the outputs are the same for all of a batch: they differ by {number(alike)} of their size"
        return [self._event(snapshot, EventKind.SAME_OUTPUT, severity, _SAME, what, alike, _ALIKE)]

    def _event(
        self,
        snapshot: GradientSnapshot,
        kind: EventKind,
        severity: Severity,
        row: int,
        what: str,
        value: float,
        limit: float,
    ) -> GradientEvent:
        message = f"{what}\n{self._losses.line()}"
        return event(snapshot, kind, severity, row, layers=(), value=value, limit=limit, message=message)
