# SPDX-License-Identifier: Apache-2.0
"""How far an optimizer of an unknown class moves the weights per learning rate, measured at its own steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.lr.known import known_rate
from lightning_gradwatch.snapshot import Floats, ParameterInfo

STEPS = 5
"""Measurements in a row that must agree."""

AGREE = 2.0
"""Largest over smallest of them. Sign and normalised updates agree within this; a plain gradient step does not, nor
does an optimizer that finds its own rate."""

TRIES = 20
"""Steps at which it is measured at once; later only when somebody else measures anyway."""


class MeasuredUnit:
    """Finds the root mean square of an entry's change, divided by the learning rate, for each parameter group.

    It is 1 for Adam's first step and for sign updates. No bound may rest on it before `STEPS` measurements in a row
    agree: then the learning rate decides how far a step goes, as with Adam. Otherwise it is 0, for unknown.
    """

    def __init__(self) -> None:
        self._seen: list[list[float]] = []
        self._steps = 0

    @property
    def is_due(self) -> bool:
        """Whether the coming step is to be measured for this."""
        return self._steps < TRIES

    def units(self, groups: int) -> list[float]:
        """[G] the largest of the measurements that agree; 0 where none do."""
        return [_agreed(row) for row in self._seen] if len(self._seen) == groups else [0.0] * groups

    def learn(
        self,
        layout: ParameterInfo,
        groups: Sequence[NDArray[np.intp]],
        settings: Sequence[Mapping[str, Any]],
        moved: Floats | None,
        scales: Sequence[float],
    ) -> None:
        """Takes in a step that is over.

        Args:
            layout: Names and shapes.
            groups: The parameters of each group, as indices.
            settings: ``optimizer.param_groups``.
            moved: [P] norms of the change of the weights, NaN where not measured; None if nowhere.
            scales: [G] what the learning rates were multiplied by.
        """
        self._steps += 1
        if len(self._seen) != len(settings):
            self._seen = [[] for _ in settings]
        if moved is None:
            return
        for row, members, group, scale in zip(self._seen, groups, settings, scales, strict=True):
            rate = known_rate(group) * scale
            change = moved[members] / np.sqrt(layout.numel[members])
            change = change[layout.matrix[members] & np.isfinite(change)]
            if rate > 0 and len(change):
                row.append(float(np.median(change)) / rate)
                del row[:-STEPS]

    def state_dict(self) -> dict[str, Any]:
        """The measurements."""
        return {"seen": [list(row) for row in self._seen], "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken."""
        self._seen, self._steps = [list(row) for row in state["seen"]], state["steps"]


def _agreed(row: Sequence[float]) -> float:
    agree = len(row) == STEPS and 0.0 < max(row) <= AGREE * min(row)
    return max(row) if agree else 0.0
