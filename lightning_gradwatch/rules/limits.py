# SPDX-License-Identifier: Apache-2.0
"""Absolute limits, for those who know theirs."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.rule import blame, event
from lightning_gradwatch.rules.text import number, where
from lightning_gradwatch.snapshot import GradientSnapshot

_GROWTH, _DEPTH = 7, 1  # rows of the remedy table


class AbsoluteLimits:
    """Holds norm and largest entry against given limits, without asking whether the loss improves.

    Non-finite steps belong to `NonFinite` and leave all counts as they are. A norm of exactly 0 is below `min_norm`;
    a step without any gradient says nothing.

    Args:
        max_norm: L2 norm over all parameters that must not be exceeded, or None.
        max_abs: Absolute value that no entry may exceed, or None.
        min_norm: L2 norm over all parameters that must be reached, or None.
        patience: Consecutive steps beyond a limit that make an event; 1 makes one at once. Then every further step
            does.
    """

    def __init__(
        self,
        *,
        max_norm: float | None = None,
        max_abs: float | None = None,
        min_norm: float | None = None,
        patience: int = 1,
    ) -> None:
        self.patience = patience
        self._limits = {
            name: limit
            for name, limit in (("max_norm", max_norm), ("max_abs", max_abs), ("min_norm", min_norm))
            if limit is not None
        }
        self._beyond = dict.fromkeys(self._limits, 0)

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Compares this step with the limits."""
        if not self._limits:
            return []
        total = snapshot.total
        if not isfinite(total) or not snapshot.present.any():
            return []
        return [
            _broken(snapshot, name, value, limit)
            for name, limit in self._limits.items()
            if (value := snapshot.max_abs if name == "max_abs" else total) is not None
            and self._lasts(name, beyond=not (value >= limit if name == "min_norm" else value <= limit))
        ]

    def state_dict(self) -> dict[str, Any]:
        """How many steps in a row broke which limit."""
        return {"beyond": dict(self._beyond)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken; limits may have come or gone since."""
        self._beyond.update({name: count for name, count in state["beyond"].items() if name in self._limits})

    def _lasts(self, name: str, *, beyond: bool) -> bool:
        self._beyond[name] = self._beyond[name] + 1 if beyond else 0
        return self._beyond[name] >= self.patience


def _broken(snapshot: GradientSnapshot, name: str, value: float, limit: float) -> GradientEvent:
    low = name == "min_norm"
    parts = blame(snapshot)
    what = "largest entry" if name == "max_abs" else "grad norm"
    lines = [f"{what} {number(value)}, limit {number(limit)} ({name})"]
    return event(
        snapshot,
        EventKind.VANISHING if low else EventKind.EXPLOSION,
        Severity.ALARM,
        _DEPTH if low else _GROWTH,
        layers=_smallest(snapshot) if low else [layer for layer, _ in parts],
        value=value,
        limit=limit,
        message="\n".join([*lines, where(parts)] if parts else lines),
        cause=f"cause unknown: only {name} was broken",
    )


def _smallest(snapshot: GradientSnapshot) -> list[str]:
    """The layers with the least gradient, at most three."""
    present = np.unique(snapshot.layout.layer_of[snapshot.present])
    order = present[np.argsort(snapshot.layer_norms[present], kind="stable")]
    return [snapshot.layout.layers[i] for i in order[:3]]
