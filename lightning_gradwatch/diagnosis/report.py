# SPDX-License-Identifier: Apache-2.0
"""What a look adds to a finding: at once, from the batch at hand, or as a finding of its own some batches later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from lightning_gradwatch.diagnosis.cause import Cause
from lightning_gradwatch.diagnosis.causes import find_cause
from lightning_gradwatch.diagnosis.evidence import Evidence
from lightning_gradwatch.diagnosis.inputs import Input, nonfinite
from lightning_gradwatch.diagnosis.words import account
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.remedies import remedies
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import GradientSnapshot

_BAD_INPUT, _MADE = 11, 10  # rows of the table of remedies
_OUTLIER = 10.0  # times the inputs of the batches that followed
_NEVER_FIRED, _DIED = 15, 16
_OUTLIER_ROW = 8


def explained(
    event: GradientEvent, inputs: Sequence[Input], loss: float | None, *, at_fault: Sequence[int] = (), all_seen: bool
) -> GradientEvent:
    """A finding of gradients that are not finite, with what the inputs of its batch say.

    Args:
        event: The finding.
        inputs: Of the batch at hand.
        loss: The loss of the step; None if unknown.
        at_fault: The ranks whose batches hold NaN or inf, if there are several ranks.
        all_seen: Whether that batch is the only one behind the step, so that sound inputs are evidence too.
    """
    held = nonfinite(inputs) or (f"the batch of rank {_ranks(at_fault)} holds NaN or inf" if at_fault else "")
    if held:
        spread = loss is not None and not isfinite(loss)
        then = f"; the loss was {number(loss or 0.0)} before the backward pass" if spread else ""
        rank = at_fault[0] if len(at_fault) == 1 else None
        return replace(event, rank=rank, cause=f"the input: {held}{then}", remedies=remedies(_BAD_INPUT))
    if inputs and all_seen:
        return replace(event, cause=f"{event.cause}; the inputs are finite", remedies=remedies(_MADE))
    return event


def diagnosed(
    event: GradientEvent, then: Sequence[Input], evidence: Evidence, batches: int, now: GradientSnapshot
) -> GradientEvent | None:
    """The finding that follows on `event`: same kind, for information, with what was seen since.

    None where it adds nothing: where no other cause was seen, or where the weights are not finite any more, so that
    each layer seems to make what it only passes on.

    Args:
        event: The finding that was looked into.
        then: The inputs at that finding, if known.
        evidence: What was seen since.
        batches: How many batches were looked at.
        now: The step at which this is told.
    """
    cause = _outlier(event, then, evidence.inputs) or find_cause(event.kind, evidence)
    known = cause is not None and cause.row == _OUTLIER_ROW and (event.cause or "").startswith("outlier batch:")
    ruined = now.weight_norms is not None and not np.isfinite(now.weight_norms).all()
    if cause is None or known or cause.text == event.cause or (ruined and not nonfinite(evidence.inputs)):
        return None
    row = cause.row
    if row == _NEVER_FIRED and event.kind is EventKind.DEAD and event.remedies == remedies(_DIED):
        row = _DIED
    headline = f"diagnosed from {batches} batches after the {event.severity.value} of step {event.step}"
    return replace(
        event,
        severity=Severity.INFO,
        step=now.step,
        log_step=now.log_step,
        epoch=now.epoch,
        batch_idx=now.batch_idx,
        layers=cause.layers or event.layers,
        message="\n".join([headline, *account(evidence)]),
        cause=cause.text,
        remedies=remedies(row),
        action_taken="",
    )


def _ranks(ranks: Sequence[int]) -> str:
    return " and ".join(map(str, ranks))


def _outlier(event: GradientEvent, then: Sequence[Input], since: Sequence[Input]) -> Cause | None:
    """The batch of a spike held against those that followed."""
    usual = {one.path: one.rms for one in since}
    for one in then:
        factor = one.rms / usual[one.path] if usual.get(one.path) else 0.0
        if factor > _OUTLIER and isfinite(factor):
            what = f"{one.path} of batch {event.batch_idx} has {number(factor)} times the rms"
            return Cause(f"an outlier batch: {what} of those that followed", 8)
    return None
