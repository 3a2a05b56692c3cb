# SPDX-License-Identifier: Apache-2.0
"""Values of layers over steps, down-sampled here, so that no answer grows with the run.

Arrays travel as base64 of little-endian floats: exact, compact, and with NaN and infinity, which JSON lacks. What is
absent is -1: no value is negative. Where several logged steps or layers share a cell, it has the largest; NaN is larger
than any number.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.tensorboard.history import History
from lightning_gradwatch.tensorboard.overview import Cells
from lightning_gradwatch.tensorboard.records import VALUES

EXACT_ROWS, EXACT_CELLS = 4096, 2**21  # so much is read again from the files; for more, the overview answers
Range = tuple[float, float]  # first and last step, inclusive
Indices = NDArray[np.intp]


def pack(numbers: NDArray[Any]) -> str:
    """Base64 of little-endian float32 for values, float64 for all else."""
    kind = "<f4" if numbers.dtype == np.float32 else "<f8"
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=kind).tobytes()).decode("ascii")


def unpack(packed: str, kind: type[np.float32 | np.float64]) -> NDArray[Any]:
    """What `pack` made of an array of this kind, flat."""
    return np.frombuffer(base64.b64decode(packed), np.dtype(kind).newbyteorder("<"))


def heatmap(history: History, value: str, steps: Range, rows: int, columns: int) -> dict[str, Any]:
    """At most `rows` layers in depth order by at most `columns` steps.

    Returns:
        `layers`: the first layer of each row; `merged`: how many layers a row has; `steps`, `ends`: first and last
        logged step of each column; `cells`: float32 [rows, columns]; `exact`: whether a column is one logged step.
    """
    cells, starts, end = _table(history, steps, history.layouts.depth)
    grid, starts = _merged(cells[VALUES.index(value)], starts, columns)
    size = max(1, -(-len(history.layouts.depth) // rows))
    grid, heads = _merged(grid.T, np.arange(len(history.layouts.depth)), rows)
    names = history.layers
    return {
        "value": value,
        "layers": [names[i] for i in heads],
        "merged": size,
        "cells": pack(grid),
        **_columns(history, starts, end),
    }


def curve(history: History, layer: str, steps: Range, points: int) -> dict[str, Any]:
    """All values of one layer at no more than `points` steps; steps as in `heatmap`."""
    cells, starts, end = _table(history, steps, np.array([history.layouts.layers.index(layer)]))
    thin = [_merged(values, starts, points) for values in cells]
    arrays = {name: pack(grid[:, 0]) for name, (grid, _) in zip(VALUES, thin, strict=True)}
    return {"layer": layer, **arrays, **_columns(history, thin[0][1], end)}


def profile(history: History, step: float) -> dict[str, Any]:
    """All layers in depth order at the logged step nearest to `step`; at least one was logged.

    Returns:
        `step`; `layers`; the values, float32 [layers]; `factors`: growth of the norm from the next layer with a
        gradient to this one, toward the input, NaN where there is none; `factor`: per layer on the whole, or None.
    """
    logged = history.steps
    row = int(np.argmin(np.abs(logged - np.clip(step, logged[0], logged[-1]))))
    cells = next(history.rows(row, row + 1))[:, history.layouts.depth]
    norms = cells[VALUES.index("norm")].astype(np.float64)
    usable = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    factors = np.full(len(norms), np.nan)
    factors[usable[:-1]] = norms[usable[:-1]] / norms[usable[1:]]
    whole = float(history.series("depth_factor")[row])
    values = {name: pack(array) for name, array in zip(VALUES, cells, strict=True)}
    factor = whole if np.isfinite(whole) else None
    return {"step": int(logged[row]), "layers": history.layers, "factors": pack(factors), "factor": factor, **values}


def _table(history: History, steps: Range, layers: Indices) -> tuple[Cells, Indices, int]:
    """[values, n, layers], the logged step that each of the n begins with, and where the last one ends, exclusive."""
    first, last = history.between(*steps)
    if history.overview.stride == 1 or last - first > min(EXACT_ROWS, EXACT_CELLS // max(1, len(layers))):
        cells, starts = history.overview.columns(first, last)
        return cells[:, :, layers], starts, last
    exact = [row[:, layers] for row in history.rows(first, last)]
    cells = np.stack(exact, axis=1) if exact else np.empty((len(VALUES), 0, len(layers)), dtype=np.float32)
    return cells, np.arange(first, last), last


def _merged(cells: Cells, starts: Indices, most: int) -> tuple[Cells, Indices]:
    """At most `most` of the first axis, each the largest of its neighbours; and the start of each."""
    size = max(1, -(-len(cells) // most))
    if size == 1:
        return cells, starts
    return np.maximum.reduceat(cells, np.arange(0, len(cells), size), axis=0), starts[::size]


def _columns(history: History, starts: Indices, end: int) -> dict[str, Any]:
    logged = history.steps
    ends = np.append(starts[1:], end) - 1 if len(starts) else starts
    return {"steps": pack(logged[starts]), "ends": pack(logged[ends]), "exact": bool((starts == ends).all())}
