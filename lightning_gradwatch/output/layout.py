# SPDX-License-Identifier: Apache-2.0
"""One page of charts in TensorBoard's Custom Scalars tab."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

_CHARTS = {
    "Gradient norm and clip limit": r"(grad_norm/total|grad_clip/threshold)",
    "Clip factor and rate": r"grad_clip/(factor|rate)",
    "Events so far": r"grad_event/",
    "Learning rate": r"grad_lr/(?!scale)",
    "Learning rate scale": r"grad_lr/scale",
    "Gradient growth per layer": r"grad_depth/factor",
}
LAYOUT = {"GradWatch": {title: ["Multiline", [tags]] for title, tags in _CHARTS.items()}}
"""The same for every run, whatever it logs: TensorBoard joins the layouts of all runs, and equal charts become one."""

_TAG = b"custom_scalars__config__"


def add_layout(board: Any) -> None:
    """Lays the charts out, unless the run has a layout: it can hold one, and the user's own comes first.

    Args:
        board: The run's SummaryWriter.
    """
    board.flush()
    if not any(_holds(path, _TAG) for path in Path(board.get_logdir()).glob("*tfevents*")):
        board.add_custom_scalars(LAYOUT)


def _holds(path: Path, text: bytes) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, 2):  # an empty file cannot be mapped
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(text) >= 0
