# SPDX-License-Identifier: Apache-2.0
"""A loss that turns and climbs above its start, without a jump."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.rule import blame, event, usable
from lightning_gradwatch.rules.text import number, where
from lightning_gradwatch.snapshot import GradientSnapshot

_GROWN = 5.0  # times the lowest block of the run
_FAR = 1.0  # of its level above the start: twice the start, for a loss above 0
_RIVALS = 100.0  # times; adversaries raise each other's loss and gradient, which is their way to learn
_CLIMBS = 31  # row of the remedy table


class Diverging:
    """Finds a loss that climbs above its start block by block while the gradient grows.

    An alarm if the gradient of the last fifth of a window is five times that of the lowest such block of the run; a
    warning if only the loss climbs, to twice its start. What a climb is says `LossHistory.climb`. Clears when the loss
    is no longer above its start.

    Assumes that the loss means the same at each step. With several optimizers, where one's progress is another's loss,
    only a gradient that grows a hundredfold counts.

    Args:
        losses: Asked once the gradient has grown, and twice per window.
        window: Optimizer steps to look back.
        rivals: Whether there are several optimizers.
        patience: Consecutive looks beyond that.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50, rivals: bool = False, patience: int = 1) -> None:
        self.block = max(3, window // 5)
        self.rivals = rivals
        self._losses = losses
        self._latch = Hysteresis(patience)
        self._steps = 0
        self._norms: deque[float] = deque(maxlen=self.block)
        self._lowest: float | None = None

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Takes the norm in, and looks once per block."""
        norm = usable(snapshot)
        if norm is None:
            return []
        self._steps += 1
        self._norms.append(norm)
        return self._look(snapshot) if self._steps % self.block == 0 else []

    def state_dict(self) -> dict[str, Any]:
        """The norms of the block, the lowest block, and what was reported."""
        return {
            "steps": self._steps,
            "norms": list(self._norms),
            "lowest": self._lowest,
            "latch": self._latch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._lowest = state["steps"], state["lowest"]
        self._norms = deque(state["norms"], maxlen=self.block)
        self._latch.load_state_dict(state["latch"])

    def _look(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        now = median(self._norms)
        self._lowest = now if self._lowest is None else min(now, self._lowest)
        times = now / self._lowest
        grown = times >= (_RIVALS if self.rivals else _GROWN)
        if self._latch.worst or not (grown or (not self.rivals and self._steps % (2 * self.block) == 0)):
            return []
        climb = self._losses.climb()
        if not climb:
            self._latch.clear()
            return []
        severity = Severity.ALARM if grown else Severity.WARNING if climb >= _FAR else None
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        return [self._found(snapshot, severity, climb, times)]

    def _found(self, snapshot: GradientSnapshot, severity: Severity, climb: float, times: float) -> GradientEvent:
        parts = blame(snapshot)
        first = f"the loss climbs, {number(climb)}x its level above the start"
        grown = f"; the gradient has grown x{number(times)}" if times >= 1.5 else ""
        return event(
            snapshot,
            EventKind.DIVERGING,
            severity,
            _CLIMBS,
            layers=[layer for layer, _ in parts],
            value=climb,
            limit=0.2,
            message="\n".join([first + grown, where(parts), self._losses.line()]),
        )
