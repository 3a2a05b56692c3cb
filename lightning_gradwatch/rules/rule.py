# SPDX-License-Identifier: Apache-2.0
"""What every rule is, and the few lines that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Protocol

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.remedies import likely, remedies
from lightning_gradwatch.snapshot import Bools, GradientSnapshot, shares

_LEAST_SHARE = 0.01
_TINY = 0.01  # of the norm that usual initialisations give


class Rule(Protocol):
    """Learns from one optimizer's steps and judges them.

    A rule returns what it finds; it does not log, warn, or raise on data. Its verdicts are functions of scale-free
    numbers.
    """

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """What is wrong at this step. Called once per optimizer step, in order."""

    def state_dict(self) -> dict[str, Any]:
        """The memory in plain types, so that ``torch.load(weights_only=True)`` reads it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""


def usable(snapshot: GradientSnapshot) -> float | None:
    """The total norm if it may enter a statistic: not where it is non-finite, exactly 0, or no gradient is there."""
    total = snapshot.total
    return total if isfinite(total) and total > 0 else None


def blame(snapshot: GradientSnapshot) -> list[tuple[str, float]]:
    """The layers that make the norm, at most three, with their shares in [0, 1]; below 1 % only if none has more."""
    parts = shares(snapshot.layout, snapshot.norms)
    return [(layer, share) for layer, share in parts if share >= _LEAST_SHARE] or parts[:1]


def telling(snapshot: GradientSnapshot) -> Bools:
    """[P] whose relative update tells how fast a training is: matrices of usual size; all where there are none.

    A bias or a matrix that started at 0 moves by a large share of itself, however small the step.
    """
    tell = snapshot.layout.matrix
    if snapshot.weight_norms is not None:
        usual = np.array([shape[0] if shape else 1 for shape in snapshot.layout.shapes]) ** 0.5
        tell = tell & (snapshot.weight_norms > _TINY * usual)
    return tell if tell.any() else np.ones(len(snapshot.norms), dtype=bool)


def position(snapshot: GradientSnapshot) -> dict[str, Any]:
    """Where in the run a snapshot was taken, as fields of an event; all ranks see the same."""
    names = ("step", "log_step", "epoch", "batch_idx", "optimizer")
    return {"rank": None, **{name: getattr(snapshot, name) for name in names}}


def event(
    snapshot: GradientSnapshot,
    kind: EventKind,
    severity: Severity,
    row: int,
    *,
    layers: Sequence[str],
    value: float,
    limit: float,
    message: str,
    cause: str | None = None,
) -> GradientEvent:
    """A finding at this step; `row` of the remedy table gives the advice, and the cause where none is given."""
    return GradientEvent(
        kind=kind,
        severity=severity,
        **position(snapshot),
        layers=tuple(layers),
        value=float(value),
        limit=float(limit),
        message=message,
        cause=cause or likely(row),
        remedies=remedies(row),
    )
