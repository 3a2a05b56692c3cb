# SPDX-License-Identifier: Apache-2.0
"""Layers that the backward pass never reaches."""

from __future__ import annotations

from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent
from lightning_gradwatch.rules.culprits import news
from lightning_gradwatch.rules.depth import layers_of
from lightning_gradwatch.rules.memory import PerParameter
from lightning_gradwatch.rules.progress import LossHistory
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import listed
from lightning_gradwatch.snapshot import GradientSnapshot, Layout

_DETACHED = 18  # row of the remedy table


class Disconnected:
    """Finds parameters that never had a gradient while others have one.

    One gradient at any time, even of 0, is enough to be connected: layers that are frozen later, or used now and
    then, are not meant. Parameters that do not require a gradient do not belong in the snapshot.

    Args:
        losses: Asked once there is a finding.
        steps: Optimizer steps at which others have a gradient.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, steps: int = 50, patience: int = 1) -> None:
        self.steps = steps + patience - 1
        self._losses = losses
        self._memory = PerParameter(3)  # whether it was ever seen, steps without, what was reported
        self._complete: Layout | None = None  # the layout of which all were seen

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Counts absences."""
        if snapshot.layout is self._complete or not snapshot.present.any():
            return []
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
        return [
            event(
                snapshot,
                EventKind.DISCONNECTED,
                severity,
                _DETACHED,
                layers=layers,
                value=count,
                limit=self.steps,
                message=f"never a gradient in {count} steps in {listed(layers)}\n{self._losses.line()}",
            )
        ]

    def state_dict(self) -> dict[str, Any]:
        """Counts by name."""
        return {"memory": self._memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._memory.load_state_dict(state["memory"])
        self._complete = None
