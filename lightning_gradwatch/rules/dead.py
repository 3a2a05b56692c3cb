# SPDX-License-Identifier: Apache-2.0
"""Layers that get a gradient of exactly 0."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.culprits import news
from lightning_gradwatch.rules.depth import Indices, layers_of
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.per_parameter import PerParameter
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import listed
from lightning_gradwatch.snapshot import Bools, GradientSnapshot

_FROM_THE_START, _LATER = 15, 16  # rows of the remedy table
_SEVERITY = {True: Severity.ALARM, False: None, None: Severity.WARNING}


class Dead:
    """Finds layers whose matrices get a gradient of exactly 0, for many of their own steps in a row.

    A bias above silent or zero inputs still has a gradient, and learns nothing but the mean: so it keeps no layer
    alive. Layers without a matrix are dead when all of their parameters are.

    A single non-zero gradient starts the count again (idle experts, rare tokens), and so does a step without one
    (frozen). Steps at which everything is 0 (a hinge loss that is satisfied) are not held against single layers. They
    are a finding of their own if as many follow each other while the loss is stuck above 0.

    Args:
        losses: Asked once layers are dead.
        steps: Consecutive steps.
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, steps: int = 50, patience: int = 1) -> None:
        self.steps = steps + patience - 1
        self._losses = losses
        self._memory = PerParameter(2)  # steps in a row, what was reported
        self._idle = False  # whether any count is running
        self._seen = 0
        self._silent = 0
        self._latch = Hysteresis()

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Counts zeros."""
        total = snapshot.total
        if not isfinite(total):
            return []
        if total == 0:
            return self._silence(snapshot) if snapshot.present.any() else []
        self._seen += 1
        self._silent = 0
        self._latch.clear()
        return self._count(snapshot) if self._idle or not snapshot.least else []

    def state_dict(self) -> dict[str, Any]:
        """Counts by name."""
        return {
            "memory": self._memory.state_dict(),
            "idle": self._idle,
            "seen": self._seen,
            "silent": self._silent,
            "latch": self._latch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._memory.load_state_dict(state["memory"])
        self._idle, self._seen, self._silent = state["idle"], state["seen"], state["silent"]
        self._latch.load_state_dict(state["latch"])

    def _silence(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        self._silent += 1
        severity = _SEVERITY[self._losses.stuck()] if self._silent >= self.steps and not self._latch.worst else None
        if not self._latch.passes(self._silent, severity) or severity is None:
            return []
        row = _LATER if self._seen else _FROM_THE_START
        return [self._found(snapshot, severity, np.flatnonzero(snapshot.present), self._silent, row)]

    def _count(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        zero = snapshot.present & (snapshot.norms == 0)
        in_a_row, reported = self._memory.align(snapshot.layout)
        in_a_row += 1
        in_a_row *= zero
        self._idle = bool(zero.any())
        found = news(snapshot, self._whole_layers(snapshot, in_a_row >= self.steps), reported, self._losses)
        if found is None:
            return []
        severity, new = found
        count = int(in_a_row[new].min())
        return [self._found(snapshot, severity, new, count, _LATER if count < self._seen else _FROM_THE_START)]

    def _whole_layers(self, snapshot: GradientSnapshot, dead: Bools) -> Bools:
        """[P] the dead parameters of layers in which no matrix lives."""
        if not dead.any():
            return dead
        owner, matrix, size = snapshot.layout.layer_of, snapshot.layout.matrix, len(snapshot.layout.layers)
        matrices = np.bincount(owner, weights=matrix & snapshot.present, minlength=size)
        living = snapshot.present & ~dead & (matrix | (matrices[owner] == 0))
        whole: Bools = dead & (np.bincount(owner, weights=living, minlength=size)[owner] == 0)
        return whole

    def _found(
        self, snapshot: GradientSnapshot, severity: Severity, which: Indices, count: int, row: int
    ) -> GradientEvent:
        layers = layers_of(snapshot, which)
        place = f"all {len(layers)} layers" if len(layers) == len(set(snapshot.layout.layers)) else listed(layers)
        return event(
            snapshot,
            EventKind.DEAD,
            severity,
            row,
            layers=layers,
            value=count,
            limit=self.steps,
            message=f"gradient exactly 0 for {count} steps in {place}\n{self._losses.line()}",
        )
