# SPDX-License-Identifier: Apache-2.0
"""The only code that touches loggers, each behind a `FailSafe`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from lightning_gradwatch.events import GradientEvent
from lightning_gradwatch.output.curves import step_of
from lightning_gradwatch.output.failsafe import FailSafe
from lightning_gradwatch.output.layout import add_layout
from lightning_gradwatch.output.markdown import as_markdown
from lightning_gradwatch.snapshot import Floats, GradientSnapshot

FIRST_PICTURE = 32
"""Logged steps before the first heat-map image; the next come after twice as many each, and one at the end."""


class Writer:
    """Writes to all loggers of a Trainer, whichever they are; on rank zero, which the loggers see to themselves.

    Args:
        loggers: ``trainer.loggers``.
    """

    def __init__(self, loggers: Iterable[Any]) -> None:
        self._loggers = list(loggers)
        self._histories: dict[tuple[int, int], Any] = {}
        self._shield = FailSafe()
        self._laid_out = False
        self._recorded = self._drawn = self._last_step = 0

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One point for each tag, in one record where it is TensorBoard: a call for each takes ten times as long."""
        if not values:
            return
        if not self._laid_out:
            self._laid_out = True
            self._tensorboard("the layout of its charts", add_layout)
        self._each("scalars", lambda target: _scalars(target, values, step))

    def text(self, tag: str, event: GradientEvent) -> None:
        """The text of an event, for TensorBoard."""
        self._tensorboard("texts", lambda board: board.add_text(tag, as_markdown(event), event.log_step))

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """The distribution of the finite entries of `values`, if there are any, for TensorBoard."""

        def write(board: Any) -> None:
            finite = values[torch.isfinite(values)]
            if finite.numel():
                board.add_histogram(tag, finite.float(), step)

        self._tensorboard("histograms", write)

    def record(
        self, snapshot: GradientSnapshot, moved: Floats | None, weights: Floats | None, **series: float | None
    ) -> None:
        """One step with all its layers, for the TensorBoard plugin.

        Args:
            snapshot: The gradients.
            moved: [P] norms of the weight change, NaN where not measured; None if nowhere.
            weights: [P] norms of the weights before, likewise.
            series: Further numbers of the step, as `RunHistory.add` names them.
        """

        def write(board: Any) -> None:
            summary = self._history(board, snapshot.optimizer).add(**step_of(snapshot, moved, weights), **series)
            board._get_file_writer().add_summary(summary, snapshot.log_step)

        self._tensorboard("records", write)
        self._recorded, self._last_step = self._recorded + 1, snapshot.log_step
        if self._recorded >= FIRST_PICTURE and self._recorded.bit_count() == 1:
            self._draw()

    def event(self, event: GradientEvent) -> None:
        """One event, for the TensorBoard plugin."""

        def write(board: Any) -> None:
            summary = self._history(board, event.optimizer).event(event.log_step, event)
            board._get_file_writer().add_summary(summary, event.log_step)

        self._tensorboard("event records", write)

    def _history(self, board: Any, optimizer: int) -> Any:
        from lightning_gradwatch.tensorboard.records import RunHistory

        return self._histories.setdefault((id(board), optimizer), RunHistory(optimizer))

    def flush(self, *, draw: bool = True) -> None:
        """Everything to the disk, with the heat map as it is now if it is to be drawn, before an end."""
        if draw:
            self._draw()
        self._each("its buffer", lambda target: target.save())

    def _draw(self) -> None:
        """The heat maps, from what the event files hold: nothing has to be remembered for them. They need Pillow."""

        def write(board: Any) -> None:
            from lightning_gradwatch.output.picture import add_heatmaps

            add_heatmaps(board, self._last_step)

        if self._drawn != self._recorded and find_spec("PIL") is not None:
            self._drawn = self._recorded
            self._tensorboard("heat maps", write)

    def _tensorboard(self, what: str, write: Callable[[Any], object]) -> None:
        def write_if_tensorboard(target: Any) -> None:
            board = _summary_writer(target)
            if board is not None:
                write(board)

        self._each(what, write_if_tensorboard)

    def _each(self, what: str, write: Callable[[Any], object]) -> None:
        for i, target in enumerate(self._loggers):
            self._shield.run((i, what), f"{type(target).__name__} failed to write {what}", _attempt, write, target)


def _attempt(write: Callable[[Any], object], target: Any) -> None:
    try:
        write(target)
    except OSError:
        # TensorBoard's thread that failed raises this again at whatever Lightning asks of it, also at the end of the
        # training. Without it the logger opens a new file, if anybody but us writes.
        if is_tensorboard(target):
            target._experiment = None
        raise


def _scalars(target: Any, values: Mapping[str, float], step: int) -> None:
    board = _summary_writer(target)
    if board is None:
        target.log_metrics(dict(values), step)
        return
    from tensorboard.compat.proto.summary_pb2 import Summary

    points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    board._get_file_writer().add_summary(Summary(value=points), step)


def is_tensorboard(target: Any) -> bool:
    """Whether a logger is a TensorBoardLogger of any namespace."""
    return any(cls.__name__ == "TensorBoardLogger" for cls in type(target).__mro__)


def _summary_writer(target: Any) -> Any:
    """Torch's SummaryWriter of a TensorBoardLogger; None for other loggers, other ranks and tensorboardX."""
    if not is_tensorboard(target):
        return None
    from torch.utils.tensorboard import SummaryWriter

    board = target.experiment
    return board if isinstance(board, SummaryWriter) else None
