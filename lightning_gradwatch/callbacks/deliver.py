# SPDX-License-Identifier: Apache-2.0
"""Events on their way out: what was done is added, then keepers, screen, loggers and listeners get them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lightning_gradwatch.callbacks.step import Finding, StepRecord
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.output.tags import tag

if TYPE_CHECKING:
    from lightning_gradwatch.callbacks.peer import Peer
    from lightning_gradwatch.callbacks.session import Session

_ROUNDING = 1e-3  # a gradient clipped to a limit may end a little above it


def is_kept(count: int) -> bool:
    """Whether the TensorBoard plugin gets event number `count` of its kind, from 1.

    It gets each of the first hundred, then one in ten, from a thousand on one in a hundred, and so on: a storm of them
    would fill the disk.
    """
    one_in: int = 10 ** max(len(str(count)) - 2, 0)
    return count % one_in == 0


def deliver(record: StepRecord, session: Session) -> None:
    """Delivers this step's events. Listeners come last, so that nothing is lost if one of them raises."""
    events: dict[tuple[object, ...], GradientEvent] = {}
    for finding in record.findings:
        culprit = record.culprit if finding.event.kind is EventKind.NONFINITE else None
        done, kept = action_taken(record, finding), is_prevented(record, finding)
        event = finding.event = replace(finding.event, rank=culprit, action_taken=done, prevented=kept)
        finding.owner.keep(event)
        key = (event.kind, event.severity, event.layers, event.step)
        if key not in events:  # two detectors may find the same; it is told once
            events[key] = event
            _announce(record, finding, session)
    for event in events.values():
        _tell_listeners(record.trainer, record.pl_module, event)


def announce(trainer: Any, pl_module: Any, owner: Peer, event: GradientEvent, session: Session) -> None:
    """Delivers an event that no rule found, and that is rare enough to be told each time."""
    owner.keep(event)
    if trainer.is_global_zero:
        session.console.say(event)
    session.writer.event(event)
    label = _label(trainer, owner, event)
    session.writer.text(label, event)
    session.writer.scalars({label: owner.counts.get(event.kind.value, 1)}, event.log_step)
    _tell_listeners(trainer, pl_module, event)


def inform(trainer: Any, owner: Peer, event: GradientEvent, session: Session) -> None:
    """Delivers what a callback did of its own accord, which is no finding: told once, then counted."""
    if session.console.is_news(event, prints=trainer.is_global_zero, teller=owner.rank):
        session.writer.event(event)
        session.writer.text(_label(trainer, owner, event), event)
    _tell_listeners(trainer, trainer.lightning_module, event)


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
    return f'nothing (action="{finding.action}"){remark}' if finding.action == "warn" else f"nothing{remark}"


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


def _announce(record: StepRecord, finding: Finding, session: Session) -> None:
    event = finding.event
    count = finding.owner.counts.get(event.kind.value, 1)
    is_news = session.console.is_news(event, prints=record.trainer.is_global_zero)
    if is_news or is_kept(count):
        session.writer.event(event)
    if is_news:
        label = _label(record.trainer, finding.owner, event)
        record.scalars[label] = count
        session.writer.text(label, event)


def _label(trainer: Any, owner: Peer, event: GradientEvent) -> str:
    return tag(f"grad_event/{event.kind.value}", event.optimizer, len(trainer.optimizers), owner.name)


def _tell_listeners(trainer: Any, pl_module: Any, event: GradientEvent) -> None:
    for callback in trainer.callbacks:
        if hasattr(callback, "on_gradient_event"):
            callback.on_gradient_event(trainer, pl_module, event)
    if hasattr(pl_module, "on_gradient_event"):
        pl_module.on_gradient_event(event)
