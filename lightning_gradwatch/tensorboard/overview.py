# SPDX-License-Identifier: Apache-2.0
"""A whole run in bounded memory: the largest of every few logged steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.tensorboard.records import ABSENT, VALUES

Cells = NDArray[np.float32]
COLUMNS = 1024
CELLS = 2**19  # per value: 2 MiB, whatever the number of layers and steps


class Overview:
    """Values x columns x layers; each column is the largest of `stride` logged steps.

    The largest, for a single spike must stay visible; NaN is larger than anything, and what is absent is smaller.

    Attributes:
        stride: Logged steps per column, a power of two.
        rows: Logged steps taken in.
    """

    def __init__(self) -> None:
        self.stride = 1
        self.rows = 0
        self._cells: Cells = np.full((len(VALUES), 8, 8), ABSENT, dtype=np.float32)

    def append(self, row: Cells) -> None:
        """Takes in one logged step, [values, layers]; later ones may have more layers, never fewer."""
        self._grow(row.shape[1])
        column = self._cells[:, self.rows // self.stride, : row.shape[1]]
        np.maximum(column, row, out=column)
        self.rows += 1

    def truncate(self, rows: int) -> int:
        """Forgets all from logged step `rows` on, at least; returns how many are left, to continue from there."""
        self.rows = min(self.rows, rows) // self.stride * self.stride
        self._cells[:, self.rows // self.stride :] = ABSENT
        return self.rows

    def columns(self, first: int, last: int) -> tuple[Cells, NDArray[np.intp]]:
        """Columns [values, n, layers] of logged steps `first` to `last`, exclusive, and the one each begins with."""
        begin, end = first // self.stride, -(-min(last, self.rows) // self.stride)
        return self._cells[:, begin:end], np.arange(begin, end) * self.stride

    def _grow(self, layers: int) -> None:
        _, columns, width = self._cells.shape
        if layers > width:
            width = max(layers, 2 * width)
        most = max(16, min(COLUMNS, CELLS // width))
        most = 1 << (most.bit_length() - 1)  # a power of two, so that pairs come out even
        while self.rows >= self.stride * most:
            self._cells = self._cells.reshape(len(VALUES), columns // 2, 2, -1).max(axis=2)
            self.stride *= 2
            columns //= 2
        if self.rows // self.stride >= columns:
            columns *= 2
        if (columns, width) != self._cells.shape[1:]:
            self._cells = _padded(self._cells, columns, width)


def _padded(cells: Cells, columns: int, layers: int) -> Cells:
    padded = np.full((cells.shape[0], columns, layers), ABSENT, dtype=np.float32)
    padded[:, : cells.shape[1], : cells.shape[2]] = cells
    return padded
