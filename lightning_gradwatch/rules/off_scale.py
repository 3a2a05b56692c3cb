# SPDX-License-Identifier: Apache-2.0
"""A training that starts absurdly far away: inputs, targets or outputs of another order than networks are made for."""

from __future__ import annotations

from math import isfinite
from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.probe_reading import ProbeReading, ProbeRule
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import GradientSnapshot

_WORSE = 3.0  # times the loss of a blind guess; initial outputs of order 1 give at most 2
_STILL = 1.5  # times, after a window
_FAR = 100.0  # rms of inputs, or of targets over answers: two orders beyond what initialisations are made for
_SCALE = 32  # row of the remedy table


class OffScale(ProbeRule):
    """Finds a loss that starts three times worse than that of a blind guess, and is still worse after a window.

    And inputs or targets whose root mean square is beyond 100 where they meet the network: the first layer with a
    matrix, or the first answers. A warning; an alarm once the loss is stuck there.

    Assumes that initialisations are made for numbers of order 1, and that a loss function of `torch.nn.functional` is
    called with the targets as they are, or none at all. A normalisation in front, or within the model, is seen.

    Args:
        losses: Asked after a window, and after two.
        window: Optimizer steps that a bad start may take to recover.
        patience: Consecutive looks beyond that.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50, patience: int = 1) -> None:
        self.window = window
        self._losses = losses
        self._latch = Hysteresis(patience)
        self._steps = 0
        self._first: dict[str, float] = {}

    def learn(self, look: ProbeReading) -> None:
        """Takes what the first batch was."""
        if look.first and not self._first:
            self._first = {what: value for what, value in look.first.items() if isfinite(value)}

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Counts steps, and looks at the end of the first windows."""
        self._steps += 1
        if not self._first or self._latch.worst or self._steps % self.window or self._steps > 4 * self.window:
            return []
        reason = self._reason()
        if not reason:
            return []
        stuck = self._steps >= 2 * self.window and bool(self._losses.stuck())
        severity = Severity.ALARM if stuck else Severity.WARNING
        if not self._latch.passes(self._steps, severity):
            return []
        what, value, limit = reason
        return [
            event(
                snapshot,
                EventKind.OFF_SCALE,
                severity,
                _SCALE,
                layers=(),
                value=value,
                limit=limit,
                message=f"{what}\n{self._losses.line()}",
                cause=None,
            )
        ]

    def state_dict(self) -> dict[str, Any]:
        """What the first batch was, and what was reported."""
        return {"steps": self._steps, "first": dict(self._first), "latch": self._latch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._first = state["steps"], dict(state["first"])
        self._latch.load_state_dict(state["latch"])

    def _reason(self) -> tuple[str, float, float] | None:
        """What is off, its value and limit; None where nothing is."""
        excess = self._first.get("excess")
        left = self._losses.share_of_start()
        if excess is not None and excess > _WORSE and left is not None and excess * left > _STILL:
            now = f"{number(excess * left)} times after {self._steps} steps"
            return f"the loss starts {number(excess)} times worse than a blind guess, {now}", excess, _WORSE
        target = self._first.get("target")
        if target is not None and target > _FAR * max(1.0, self._first.get("answer", 0.0)):
            return f"targets of rms {number(target)}, first answers {number(self._first['answer'])}", target, _FAR
        inputs = self._first.get("input")
        if inputs is not None and inputs > _FAR:
            return f"what goes into the first layer has rms {number(inputs)}", inputs, _FAR
        return None
