# SPDX-License-Identifier: Apache-2.0
"""`GradientNormLogger`."""

from __future__ import annotations

from typing import Any

import torch
from typing_extensions import override

from lightning_gradwatch.arguments import flag, optional, whole_number
from lightning_gradwatch.callbacks.base import GradientCallback
from lightning_gradwatch.compat import lightning
from lightning_gradwatch.engine.dispatch import is_kept
from lightning_gradwatch.engine.participant import Patterns
from lightning_gradwatch.engine.session import Session
from lightning_gradwatch.engine.startup_notes import later_edits
from lightning_gradwatch.engine.step import StepRecord, StepResult, Wanted
from lightning_gradwatch.events import GradientEvent, Severity
from lightning_gradwatch.output.curves import headline, per_layer
from lightning_gradwatch.output.epoch_metrics import EpochAggregate
from lightning_gradwatch.output.merging import Merging
from lightning_gradwatch.output.tags import is_logged, tag
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo
from lightning_gradwatch.state import LazyStateDict

_EPOCH_STEMS = {
    ("grad_norm", "mean"): "grad_norm_epoch/total_mean",
    ("grad_norm", "max"): "grad_norm_epoch/total_max",
    ("grad_max", "max"): "grad_max_epoch/total",
}


class GradientNormLogger(GradientCallback):
    """Logs the norms of the gradients, in total and per layer, before and after clipping, and the relative updates.

    Norms are L2, over the parameters of one optimizer, of the gradient as the optimizer would see it: accumulated,
    unscaled, whole across ranks. Values are logged at the steps where ``self.log`` logs, to all loggers of the Trainer.

    Logs, at each logged step:

    * ``grad_norm/total``, ``grad_norm/total_clipped``: before, and after whoever clipped last; 0 for a skipped step.
    * ``grad_max/total``: the largest absolute entry.
    * ``grad_norm/<layer>``, ``weight_norm/<layer>``: a layer is a module that owns parameters.
    * ``grad_update_ratio/<layer>``: norm of the weight change over norm of the weight.
    * ``grad_depth/factor``: growth of the gradient per layer from output to input (geometric mean).
    * ``grad_depth/speed_spread``: relative update of the fastest over that of the slowest layer.

    At the end of each epoch: ``grad_norm_epoch/total_mean`` and ``grad_norm_epoch/total_max`` over all its steps,
    ``grad_max_epoch/total`` over the logged ones. With several optimizers each tag ends in ``/opt0``, ``/opt1``. The
    values that are no layer's are in ``trainer.callback_metrics`` too, for `EarlyStopping` and `ModelCheckpoint` to
    monitor.

    Args:
        every_n_steps: Optimizer steps between logged ones; None for the Trainer's ``log_every_n_steps``.
        per_layer: Whether to log layers.
        max_layers: Past so many, layers are merged by their parent module.
        update_ratio: Whether to measure relative updates, at logged steps, on at most 64 MiB of weights in turn.
        histograms_every_n_steps: Optimizer steps between histograms of each parameter's gradient (TensorBoard only; of
            this rank's shard where a strategy shards; dear), or None for none.
        prog_bar: Whether to show the total in the progress bar.
        include: Name patterns (fnmatch) of the parameters to show as layers; totals are over all.
        exclude: Name patterns of the parameters to leave out.
        name: Tells several instances apart, in checkpoints and tags.

    Raises:
        ValueError: An argument is out of range.
        TypeError: An argument is of the wrong type.

    Example:
        >>> GradientNormLogger(every_n_steps=10, exclude="*.bias").every_n_steps
        10
    """

    only_reports = True

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        per_layer: bool = True,
        max_layers: int = 32,
        update_ratio: bool = True,
        histograms_every_n_steps: int | None = None,
        prog_bar: bool = False,
        include: Patterns = None,
        exclude: Patterns = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, include=include, exclude=exclude)
        self.every_n_steps = optional(whole_number, "every_n_steps", every_n_steps)
        self.per_layer = flag("per_layer", per_layer)
        self.update_ratio = flag("update_ratio", update_ratio)
        self.prog_bar = flag("prog_bar", prog_bar)
        self.max_layers = whole_number("max_layers", max_layers)
        self.histograms_every_n_steps = optional(whole_number, "histograms_every_n_steps", histograms_every_n_steps)
        self._epoch: LazyStateDict[tuple[str, int], EpochAggregate] = LazyStateDict()
        self._merging: tuple[ParameterInfo, Merging] | None = None
        self._event_steps = 0

    @override
    def wants_max_abs(self, trainer: Any, log_step: int) -> bool:
        return self._logs(trainer, log_step)

    @override
    def on_applied(self, record: StepRecord) -> None:
        if self._logs(record.trainer, record.where["log_step"]):
            record.edited = bool(later_edits(record.trainer, record.pl_module))
        if self.prog_bar and record.snapshot is not None:
            label = self._tag("grad_norm/total", record.trainer, record.where["optimizer"])
            record.pl_module.log(label, record.snapshot.total, prog_bar=True, logger=False)
        every = self.histograms_every_n_steps
        if every is not None and is_logged(record.trainer, record.where["log_step"], every):
            self._write_histograms(record)

    @override
    def wants_updates(self, record: StepRecord) -> Wanted:
        return "all" if self.update_ratio and self._logs(record.trainer, record.where["log_step"]) else None

    @override
    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        snapshot = result.snapshot
        if not snapshot.total and not snapshot.present.any():  # no backward call: no zero that would mean anything
            return
        if snapshot.epoch == trainer.current_epoch:  # else it was taken in at the end of its epoch
            self._aggregate(snapshot)
        logs = self._logs(trainer, snapshot.log_step)
        if not logs and not result.notable:
            return
        result.recorded = logs
        values = headline(snapshot, result.total_clipped, result.moved, result.weights)
        self._publish(trainer, {self._tag(stem, trainer, snapshot.optimizer): value for stem, value in values.items()})
        if self.per_layer and logs:
            values |= self._layers(result)
        result.scalars.update({self._tag(stem, trainer, snapshot.optimizer): value for stem, value in values.items()})

    def on_gradient_event(self, trainer: Any, pl_module: Any, event: GradientEvent) -> None:
        """Records the step of the event, so that the TensorBoard plugin can show what happened there."""
        if event.severity is Severity.INFO:
            return
        self._event_steps += 1
        if is_kept(self._event_steps):
            Session.of(trainer).recording.ask(event.optimizer, event.log_step)

    @override
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        session = Session.of(trainer)
        session.ask(self, self._end_epoch, trainer, session)

    def _end_epoch(self, trainer: Any, session: Session) -> None:
        values = {}
        for watch in session.watches.values():
            last = watch.peek()
            if last is not None and last.present.any():
                self._aggregate(last)
        for (name, optimizer), aggregate in self._epoch.items():
            for statistic, value in aggregate.compute().items():
                stem = _EPOCH_STEMS.get((name, statistic))
                if stem is not None:
                    values[self._tag(stem, trainer, optimizer)] = value
        if values:
            self._publish(trainer, values)
            session.writer.scalars(values, lightning.log_step(trainer) - 1)

    @override
    def memory(self) -> dict[str, Any]:
        return {"epoch": self._epoch.state_dict()}

    @override
    def recall(self, state: dict[str, Any]) -> None:
        self._epoch.load_state_dict(state["epoch"])

    def _aggregate(self, snapshot: GradientSnapshot) -> None:
        for name, value in (("grad_norm", snapshot.total), ("grad_max", snapshot.max_abs)):
            if value is not None:
                self._epoch.get((name, snapshot.optimizer), EpochAggregate).add(value)

    def _logs(self, trainer: Any, log_step: int) -> bool:
        return is_logged(trainer, log_step, self.every_n_steps)

    def _tag(self, stem: str, trainer: Any, optimizer: int) -> str:
        return tag(stem, optimizer, len(trainer.optimizers), self.name)

    def _layers(self, result: StepResult) -> dict[str, float]:
        members, layout = self.selected(result.snapshot.layout)
        if self._merging is None or self._merging[0] is not layout:
            self._merging = layout, Merging(layout.layers, self.max_layers)
        every = slice(None) if members is None else members
        moved, weights = (None if array is None else array[every] for array in (result.moved, result.weights))
        return per_layer(layout, self._merging[1], result.snapshot.norms[every], moved, weights)

    def _write_histograms(self, record: StepRecord) -> None:
        writer, names = Session.of(record.trainer).writer, record.watch.meter.layout.names
        chosen = self.members(record.watch.meter.layout)
        for gradient, i in zip(record.reading.gradients, record.reading.held, strict=True):
            if chosen is None or i in chosen:
                stem = self._tag(f"grad_histogram/{names[i]}", record.trainer, record.watch.index)
                values = gradient if record.scale is None else gradient / record.scale
                writer.histogram(
                    stem, values.detach().abs() if values.is_complex() else values, record.where["log_step"]
                )

    @staticmethod
    def _publish(trainer: Any, values: dict[str, float]) -> None:
        trainer.callback_metrics.update({label: torch.tensor(value) for label, value in values.items()})
