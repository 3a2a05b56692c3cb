# SPDX-License-Identifier: Apache-2.0
"""Few enough names for a readable chart: layers joined by their parent module."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from numpy.typing import NDArray


class Merging:
    """Which chart line each layer belongs to.

    Layers are cut back level by level, the deepest first, until there are at most `most` names. Where the last cut
    would throw all blocks of a network together, neighbouring blocks are joined instead: ``h.0-1``, ``h.2-3``.

    Args:
        layers: [L] full names in depth order.
        most: At most so many names.

    Attributes:
        names: [G] names of the lines.
        line_of: [L] index into `names`.
    """

    def __init__(self, layers: tuple[str, ...], most: int) -> None:
        merged = _merged(list(layers), most)
        self.names = tuple(dict.fromkeys(merged))
        index = {name: i for i, name in enumerate(self.names)}
        self.line_of: NDArray[np.intp] = np.array([index[name] for name in merged], dtype=np.intp)

    def norms(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[G] joint norms, of the norms [L] of layers."""
        return np.sqrt(np.bincount(self.line_of, weights=values * values, minlength=len(self.names)))


def _merged(names: list[str], most: int) -> list[str]:
    """The name of each layer's line."""
    depth = max((name.count(".") + 1 for name in names), default=0)
    while len(set(names)) > most and depth > 1:
        depth -= 1
        shorter = [".".join(name.split(".")[:depth]) for name in names]
        if len(set(shorter)) * 4 < most < len(set(names)):
            return _joined(names, most)
        names = shorter
    return names if len(set(names)) <= most else _joined(names, most)


def _joined(names: list[str], most: int) -> list[str]:
    """Neighbours under one parent joined, as many at a time as it takes."""
    distinct = list(dict.fromkeys(names))
    families = [list(members) for _, members in groupby(distinct, key=lambda name: name.rpartition(".")[0])]
    size = -(-len(distinct) // max(most - len(families), 1))
    line: dict[str, str] = {}
    for family in families:
        for start in range(0, len(family), size):
            part = family[start : start + size]
            label = part[0] if len(part) == 1 else f"{part[0]}-{part[-1].rpartition('.')[2]}"
            line |= dict.fromkeys(part, label)
    return [line[name] for name in names]
