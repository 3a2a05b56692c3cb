# SPDX-License-Identifier: Apache-2.0
"""Which steps the TensorBoard plugin gets with all layers: the logged ones, and those of an event."""

from __future__ import annotations

from lightning_gradwatch.engine.step import StepResult
from lightning_gradwatch.output.writer import Writer


class Recording:
    """Keeps the last step of each optimizer that was not to be logged, in case an event makes it worth it.

    Args:
        writer: The way to the loggers.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._due: dict[int, int] = {}
        self._unrecorded: dict[int, StepResult] = {}

    def ask(self, optimizer: int, log_step: int) -> None:
        """Wants a step recorded though it is not to be logged: now, or once it is over."""
        self._due[optimizer] = log_step
        last = self._unrecorded.get(optimizer)
        if last is not None and last.snapshot.log_step == log_step:
            self._write(last)

    def take(self, result: StepResult) -> None:
        """A step is over."""
        if result.recorded or self._due.get(result.snapshot.optimizer) == result.snapshot.log_step:
            self._write(result)
        else:
            self._unrecorded[result.snapshot.optimizer] = result

    def _write(self, result: StepResult) -> None:
        self._unrecorded.pop(result.snapshot.optimizer, None)
        self._writer.record(
            result.snapshot,
            result.moved,
            result.weights,
            total_clipped=result.total_clipped,
            limit=result.limit,
            factor=result.factor,
            lr_scale=result.lr_scale,
        )
