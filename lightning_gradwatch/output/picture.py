# SPDX-License-Identifier: Apache-2.0
"""The heat map of a run as an image, for TensorBoards without our tab: layers x steps, colour = log10 of the norm."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tensorboard.compat.proto.summary_pb2 import Summary

from lightning_gradwatch.output.tags import tag
from lightning_gradwatch.tensorboard.cells import heatmap, unpack
from lightning_gradwatch.tensorboard.history import History
from lightning_gradwatch.tensorboard.runs import LogDirectory

_ROWS, _COLUMNS = 100, 250  # cells at most; more could not be told apart
_WIDTH, _HEIGHT = 600, 400  # pixels of the map
_LEFT, _TOP, _RIGHT, _BOTTOM = 190, 28, 84, 28  # margins
_NAME, _NAMES = 28, 32  # characters of a layer's name, and how many names there is room for
_INK, _PAPER = (60, 60, 67), (255, 255, 255)

# As the tab: nine anchors of matplotlib's viridis (CC0), interpolated, and colours that are not in it.
_VIRIDIS = np.array([list(bytes.fromhex(anchor)) for anchor in (
    "440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725",
)])  # fmt: skip
_NONFINITE, _ZERO, _ABSENT = (255, 59, 107), (107, 107, 118), (236, 236, 238)


def add_heatmaps(board: Any, step: int) -> None:
    """One image for each optimizer, of all that the run's event files hold.

    Args:
        board: The run's SummaryWriter.
        step: On the loggers' axis.
    """
    board.flush()
    histories = LogDirectory(Path(board.get_logdir())).refresh(["."], math.inf)["."].histories
    for optimizer, history in histories.items():
        if len(history):
            value = Summary.Value(tag=tag("grad_heatmap/norm", optimizer, len(histories)), image=_png(draw(history)))
            board._get_file_writer().add_summary(Summary(value=[value]), step)


def draw(history: History) -> Image.Image:
    """The heat map with its axes and its scale; the size is the same for every run."""
    data = heatmap(history, "norm", (-math.inf, math.inf), _ROWS, _COLUMNS)
    cells = unpack(data["cells"], np.float32).reshape(len(data["layers"]), -1)
    low, high = _range(cells)
    image = Image.new("RGB", (_LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM), _PAPER)
    colors = Image.fromarray(_colors(cells, low, high))
    image.paste(colors.resize((_WIDTH, _HEIGHT), Image.Resampling.NEAREST), (_LEFT, _TOP))
    pen = ImageDraw.Draw(image)
    _title(pen, "gradient norm of each layer, from input (top) to output")
    _name_rows(pen, data["layers"])
    _name_columns(pen, unpack(data["steps"], np.float64), unpack(data["ends"], np.float64))
    _scale(image, pen, low, high)
    return image


def _range(cells: NDArray[np.float32]) -> tuple[float, float]:
    """Log10 from the 2nd to the 98th percentile, as the tab: a few spikes must not flatten all else."""
    known = cells[np.isfinite(cells) & (cells > 0)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.quantile(np.log10(known, dtype=np.float64), [0.02, 0.98]).tolist()
    return low, high if high > low else low + 1


def _colors(cells: NDArray[np.floating[Any]], low: float, high: float) -> NDArray[np.uint8]:
    """[rows, columns, 3] red, green, blue."""
    with np.errstate(divide="ignore", invalid="ignore"):
        place = (np.log10(cells) - low) / (high - low) * (len(_VIRIDIS) - 1)
    anchors = np.arange(len(_VIRIDIS))
    colors = np.stack([np.interp(place, anchors, channel) for channel in _VIRIDIS.T], axis=-1)
    colors[cells == 0], colors[cells < 0], colors[~np.isfinite(cells)] = _ZERO, _ABSENT, _NONFINITE
    return colors.round().astype(np.uint8)


def _title(pen: Any, text: str) -> None:
    pen.text((_LEFT, _TOP // 2), text, _INK, anchor="lm")


def _name_rows(pen: Any, names: list[str]) -> None:
    for i in range(0, len(names), -(-len(names) // _NAMES)):
        name = names[i] if len(names[i]) <= _NAME else f"...{names[i][3 - _NAME :]}"
        pen.text((_LEFT - 6, _TOP + (i + 0.5) * _HEIGHT / len(names)), name, _INK, anchor="rm")


def _name_columns(pen: Any, first: NDArray[np.float64], last: NDArray[np.float64]) -> None:
    below = _TOP + _HEIGHT + _BOTTOM // 2
    for i in np.unique(np.linspace(0, len(first) - 1, 6).astype(int)).tolist():
        step = last[i] if i == len(first) - 1 else first[i]
        pen.text((_LEFT + (i + 0.5) * _WIDTH / len(first), below), f"{step:,.0f}", _INK, anchor="mm")
    pen.text((_LEFT - 6, below), "step", _INK, anchor="rm")


def _scale(image: Image.Image, pen: Any, low: float, high: float) -> None:
    """The colours with their norms, and those that stand for no number."""
    left, height = _LEFT + _WIDTH + 12, _HEIGHT - 64
    bar = np.logspace(high, low, height)[:, None]
    image.paste(Image.fromarray(_colors(bar, low, high)).resize((14, height)), (left, _TOP))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        norm = 10 ** (high + (low - high) * share)
        pen.text((left + 20, _TOP + share * (height - 1)), f"{norm:.1e}", _INK, anchor="lm")
    for i, (color, word) in enumerate(((_NONFINITE, "NaN, inf"), (_ZERO, "zero"))):
        top = _TOP + height + 22 + 22 * i
        pen.rectangle((left, top, left + 13, top + 13), color)
        pen.text((left + 20, top + 7), word, _INK, anchor="lm")


def _png(image: Image.Image) -> Summary.Image:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Summary.Image(width=image.width, height=image.height, colorspace=3, encoded_image_string=buffer.getvalue())
