# SPDX-License-Identifier: Apache-2.0
"""Which layers a run has, and how the arrays of its records are laid out. Layers may come and go while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.tensorboard.overview import Cells
from lightning_gradwatch.tensorboard.records import ABSENT, VALUES

_NORM, _NONFINITE = VALUES.index("norm"), VALUES.index("nonfinite")


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The arrays of some records: which values, and the place of each layer among all of the run."""

    values: tuple[int, ...]
    places: NDArray[np.intp]

    def unpack(self, arrays: Cells, layers: int) -> Cells:
        """[values, layers] of one logged step; absent where the record has nothing."""
        row = np.full((len(VALUES), layers), ABSENT, dtype=np.float32)
        for value, array in zip(self.values, arrays.reshape(len(self.values), len(self.places)), strict=True):
            row[value, self.places] = array
        if _NONFINITE not in self.values:
            row[_NONFINITE, self.places] = ~np.isfinite(row[_NORM, self.places])
        return row


class Layouts:
    """The layers of a run and the shapes of its records, as the headers tell them.

    Attributes:
        layers: All ever seen, in the order of their first appearance: the place of a layer never changes.
        depth: Depth order, as indices into `layers`: that of the newest names, then layers that are no longer there.
        shapes: All ever seen.
    """

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.depth: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.shapes: list[Shape] = []
        self._places: dict[str, NDArray[np.intp]] = {}
        self._numbers: dict[tuple[str, ...], int] = {}

    def shape(self, header: dict[str, Any]) -> int:
        """The index in `shapes` of the record with this header; names come with the first record that uses them.

        Raises:
            KeyError: The names never came, or a value is unknown.
        """
        if "layers" in header:
            self._name(header["key"], [str(layer) for layer in header["layers"]])
        key = (header["key"], *header["values"])
        if key not in self._numbers:
            known = dict(zip(VALUES, range(len(VALUES)), strict=True))
            values = tuple(known[name] for name in header["values"])
            self.shapes.append(Shape(values, self._places[header["key"]]))
            self._numbers[key] = len(self.shapes) - 1
        return self._numbers[key]

    def _name(self, key: str, names: list[str]) -> None:
        places = {layer: i for i, layer in enumerate(dict.fromkeys([*self.layers, *names]))}
        self.layers = list(places)
        self._places[key] = np.array([places[name] for name in names], dtype=np.intp)
        gone = np.setdiff1d(np.arange(len(places)), self._places[key])
        self.depth = np.concatenate([self._places[key], gone])
