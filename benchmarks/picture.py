# SPDX-License-Identifier: Apache-2.0
"""Pictures of results, drawn alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#1b6ca8", "#66a182", "#d1495b", "#edae49", "#8d96a3", "#5e4b8b")
"""Ours first, the bare run last."""


@contextmanager
def picture(path: Path, *, xlabel: str, ylabel: str) -> Iterator[Axes]:
    """An empty diagram, written to `path` after it was drawn into; its legend says what is what."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
