# SPDX-License-Identifier: Apache-2.0
"""Layers that the backward pass never reaches."""

from __future__ import annotations

from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.culprits import news
from lightning_gradwatch.rules.depth import layers_of
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.per_parameter import PerParameter
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import listed
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo

_DETACHED = 18  # row of the remedy table
_SEVERITY = {True: Severity.ALARM, False: None, None: Severity.WARNING}


class Disconnected:
    """Finds parameters that never had a gradient while others have one, and steps at which no parameter has any.

    One gradient at any time, even of 0, is enough to be connected: layers that are frozen later, or used now and
    then, are not meant. Parameters that do not require a gradient do not belong in the snapshot.

    Where nobody has a gradient, step after step, while the loss is stuck above 0, the optimizer has nothing to step
    along: the graph was lost, or the gradients were cleared before the step.

    Args:
        losses: Asked once there is a finding.
        steps: Optimizer steps at which others have a gradient, or at which nobody has.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, steps: int = 50, patience: int = 1) -> None:
        self.steps = steps + patience - 1
        self._losses = losses
        self._memory = PerParameter(3)  # whether it was ever seen, steps without, what was reported
        self._complete: ParameterInfo | None = None  # the layout of which all were seen
        self._nothing = 0  # steps in a row without any gradient
        self._latch = Hysteresis()

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Counts absences."""
        if snapshot.total == 0 and not snapshot.present.any():
            return self._without_any(snapshot) if snapshot.layout.names else []
        if self._nothing:
            self._nothing = 0
            self._latch.clear()
        return [] if snapshot.layout is self._complete else self._count(snapshot)

    def state_dict(self) -> dict[str, Any]:
        """Counts by name."""
        return {"memory": self._memory.state_dict(), "nothing": self._nothing, "latch": self._latch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._memory.load_state_dict(state["memory"])
        self._complete = None
        self._nothing = state.get("nothing", 0)
        if "latch" in state:
            self._latch.load_state_dict(state["latch"])

    def _count(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        seen, without, reported = self._memory.align(snapshot.layout)
        seen[snapshot.present] = 1
        if seen.all():
            self._complete = snapshot.layout
        without += 1
        without *= seen == 0
        found = news(snapshot, without >= self.steps, reported, self._losses)
        if found is None:
            return []
        severity, new = found
        layers, count = layers_of(snapshot, new), int(without[new].max())
        first = f"never a gradient in {count} steps in {listed(layers)}"
        return [self._found(snapshot, severity, layers, count, first)]

    def _without_any(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        self._nothing += 1
        severity = _SEVERITY[self._losses.stuck()] if self._nothing >= self.steps and not self._latch.worst else None
        if not self._latch.passes(self._nothing, severity) or severity is None:
            return []
        layers = list(snapshot.layout.layers)
        first = f"no gradient at all for {self._nothing} steps, in none of {len(layers)} layers"
        return [self._found(snapshot, severity, layers, self._nothing, first)]

    def _found(
        self, snapshot: GradientSnapshot, severity: Severity, layers: list[str], count: int, first: str
    ) -> GradientEvent:
        return event(
            snapshot,
            EventKind.DISCONNECTED,
            severity,
            _DETACHED,
            layers=layers,
            value=count,
            limit=self.steps,
            message=f"{first}\n{self._losses.line()}",
        )
