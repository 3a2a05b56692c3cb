# SPDX-License-Identifier: Apache-2.0
"""Numbers that a rule keeps for each parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.snapshot import Floats, ParameterInfo


class PerParameter:
    """A table [K, P] of numbers, kept by parameter name, so that it outlives a change of the parameter set.

    Args:
        kinds: K, the numbers per parameter. All start at 0.
    """

    def __init__(self, kinds: int) -> None:
        self._layout: ParameterInfo | None = None
        self._names: tuple[str, ...] = ()
        self._table: Floats = np.zeros((kinds, 0))

    def align(self, layout: ParameterInfo) -> Floats:
        """The table [K, P] for the parameters of `layout`; to be changed in place."""
        if layout is not self._layout:
            known = {name: i for i, name in enumerate(self._names)}
            table = np.zeros((len(self._table), len(layout.names)))
            kept = [(i, known[name]) for i, name in enumerate(layout.names) if name in known]
            if kept:
                new, old = zip(*kept, strict=True)
                table[:, new] = self._table[:, old]
            self._layout, self._names, self._table = layout, layout.names, table
        return self._table

    def state_dict(self) -> dict[str, Any]:
        """Names and numbers."""
        return {"names": list(self._names), "table": self._table.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken; the parameters may have changed since."""
        self._layout, self._names = None, tuple(state["names"])
        self._table = np.array(state["table"], dtype=np.float64).reshape(len(state["table"]), -1)
