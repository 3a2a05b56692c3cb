# SPDX-License-Identifier: Apache-2.0
"""Events on their way out: what was done is added, then keepers, screen, loggers and listeners get them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from lightning_gradwatch.engine.step import Finding, Owner, StepRecord
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.output.console import Console
from lightning_gradwatch.output.tags import tag
from lightning_gradwatch.output.writer import Writer

_ROUNDING = 1e-3  # a gradient clipped to a limit may end a little above it


def is_kept(count: int) -> bool:
    """Whether the TensorBoard plugin gets event number `count` of its kind, from 1.

    It gets each of the first hundred, then one in ten, from a thousand on one in a hundred, and so on: a storm of them
    would fill the disk.
    """
    one_in: int = 10 ** max(len(str(count)) - 2, 0)
    return count % one_in == 0


class Dispatcher:
    """The one way of events out: keeper, screen, loggers, then listeners: nothing is lost if one of them raises.

    Args:
        console: The way to the screen.
        writer: The way to the loggers.
    """

    def __init__(self, console: Console, writer: Writer) -> None:
        self._console, self._writer = console, writer

    def step(self, record: StepRecord) -> None:
        """Sends this step's findings, each with what was done about it.

        What two have found is told once, by the one who looks for the cause.
        """
        events: dict[tuple[object, ...], GradientEvent] = {}
        for finding in sorted(record.findings, key=lambda finding: not finding.owner.diagnose):
            culprit = record.culprit if finding.event.kind is EventKind.NONFINITE else None
            done, kept = action_taken(record, finding), is_prevented(record, finding)
            event = finding.event = replace(finding.event, rank=culprit, action_taken=done, prevented=kept)
            finding.owner.record_event(event)
            key = (event.kind, event.severity, event.layers, event.step)
            if key not in events:
                events[key] = event
                label = self._tell(record.trainer, finding.owner, event)
                if label is not None:
                    record.scalars[label] = finding.owner.counts.get(event.kind.value, 1)
        for event in events.values():
            _tell_listeners(record.trainer, record.pl_module, event)

    def emit(self, trainer: Any, owner: Owner, event: GradientEvent, *, each_time: bool = False) -> None:
        """Sends an event that no rule found.

        Args:
            trainer: The Trainer.
            owner: Whose event it is; it keeps it.
            event: The event, complete.
            each_time: Whether it is rare enough to be told each time; else once per owner, and then counted.
        """
        owner.record_event(event)
        label = self._tell(trainer, owner, event, teller=owner.sort_key, each_time=each_time)
        if label is not None and event.kind.value in owner.counts:
            self._writer.scalars({label: owner.counts[event.kind.value]}, event.log_step)
        _tell_listeners(trainer, trainer.lightning_module, event)

    def _tell(
        self, trainer: Any, owner: Owner, event: GradientEvent, *, teller: Hashable = None, each_time: bool = False
    ) -> str | None:
        """Sends what is news to the screen and the loggers; returns the tag of its count, where it is."""
        is_news = self._console.is_news(event, prints=trainer.is_global_zero, teller=teller, each_time=each_time)
        if is_news or is_kept(owner.counts.get(event.kind.value, 1)):
            self._writer.event(event)
        if not is_news:
            return None
        label = tag(f"grad_event/{event.kind.value}", event.optimizer, len(trainer.optimizers), owner.name)
        self._writer.text(label, event)
        return label


def action_taken(record: StepRecord, finding: Finding) -> str:
    """What was done at this step, whoever wanted it."""
    if finding.event.severity is Severity.INFO:
        return "nothing, for information"
    remark = f" ({finding.remark})" if finding.remark else ""
    if record.ending is not None:
        ended = "aborted" if record.ending.action == "abort" else "stopped"
        return f"training {ended}, weights from before this step{remark}"
    if record.skipped or _skipped_on_device(record, finding):
        return f"step skipped, weights intact{remark}"
    judged = record.earlier or record
    if judged.factor < 1:
        return f"clipped x{float(judged.factor):.2g}; training continues{remark if finding.action == 'clip' else ''}"
    return 'nothing (action="warn")' if finding.action == "warn" and not remark else f"nothing{remark}"


def is_prevented(record: StepRecord, finding: Finding) -> bool:
    """Whether the harm did not reach the weights; what is known only after a step always has."""
    of_this_step = finding.event.kind in (EventKind.NONFINITE, EventKind.SPIKE) or finding.action in ("clip", "skip")
    if not of_this_step or finding.event.severity is Severity.INFO:
        return False
    if record.ending is not None or record.skipped or _skipped_on_device(record, finding):
        return True
    judged = record.earlier or record
    left = float(judged.total_clipped)
    return finding.action == "clip" or left <= finding.event.limit * (1 + _ROUNDING) < finding.event.value


def _skipped_on_device(record: StepRecord, finding: Finding) -> bool:
    return record.lagged and finding.action == "skip" and finding.event.kind is EventKind.NONFINITE


def _tell_listeners(trainer: Any, pl_module: Any, event: GradientEvent) -> None:
    for callback in trainer.callbacks:
        if hasattr(callback, "on_gradient_event"):
            callback.on_gradient_event(trainer, pl_module, event)
    if hasattr(pl_module, "on_gradient_event"):
        pl_module.on_gradient_event(event)
