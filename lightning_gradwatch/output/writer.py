# SPDX-License-Identifier: Apache-2.0
"""The only code that touches loggers. What fails in here is said once and switched off; it never ends a training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger("lightning_gradwatch")


class Writer:
    """Writes to all loggers of a Trainer, whichever they are; on rank zero, which the loggers see to themselves.

    Args:
        loggers: ``trainer.loggers``.
    """

    def __init__(self, loggers: Iterable[Any]) -> None:
        self._loggers = list(loggers)
        self._broken: set[tuple[int, str]] = set()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One point for each tag, in one record where it is TensorBoard: a call for each takes ten times as long."""
        if values:
            self._each("scalars", lambda target: _scalars(target, values, step))

    def text(self, tag: str, markdown: str, step: int) -> None:
        """A text, for TensorBoard."""
        self._tensorboard("texts", lambda board: board.add_text(tag, markdown, step))

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """The distribution of the finite entries of `values`, if there are any, for TensorBoard."""
        finite = values[torch.isfinite(values)]
        if finite.numel():
            self._tensorboard("histograms", lambda board: board.add_histogram(tag, finite.float(), step))

    def summary(self, summary: Any, step: int) -> None:
        """A ready-made summary, for TensorBoard."""
        self._tensorboard("summaries", lambda board: board._get_file_writer().add_summary(summary, step))

    def flush(self) -> None:
        """Everything to the disk, before an end that may be hard."""
        self._each("its buffer", lambda target: target.save())

    def _tensorboard(self, what: str, write: Callable[[Any], object]) -> None:
        def write_if_tensorboard(target: Any) -> None:
            board = _summary_writer(target)
            if board is not None:
                write(board)

        self._each(what, write_if_tensorboard)

    def _each(self, what: str, write: Callable[[Any], object]) -> None:
        for i, target in enumerate(self._loggers):
            if (i, what) in self._broken:
                continue
            try:
                write(target)
            except Exception as error:  # a full disk, a lost server, a logger of the user's own: anything
                self._broken.add((i, what))
                logger.exception(
                    "[gradwatch] %s failed to write %s (%s); the training goes on without them.",
                    type(target).__name__,
                    what,
                    error,
                )


def _scalars(target: Any, values: Mapping[str, float], step: int) -> None:
    board = _summary_writer(target)
    if board is None:
        target.log_metrics(dict(values), step)
        return
    from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415  slow, and needless without TensorBoard

    points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    board._get_file_writer().add_summary(Summary(value=points), step)


def _summary_writer(target: Any) -> Any:
    """torch's SummaryWriter of a TensorBoardLogger; None for other loggers, other ranks and tensorboardX."""
    if not any(cls.__name__ == "TensorBoardLogger" for cls in type(target).__mro__):
        return None
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  slow, and needless without TensorBoard

    board = target.experiment
    return board if isinstance(board, SummaryWriter) else None
