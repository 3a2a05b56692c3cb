# SPDX-License-Identifier: Apache-2.0
"""The one place where the evidence on a finding is weighed: a cause is said where its rivals are excluded.

What is at hand when something is found: the scale of the inputs, targets and outputs of the first batch, the weights at
the first step, and how far the steps moved the weights since. Where that names no cause, the finding says so.
"""

from __future__ import annotations

from math import log10

from lightning_gradwatch.diagnosis.cause import Cause
from lightning_gradwatch.diagnosis.evidence import Evidence
from lightning_gradwatch.diagnosis.history import History
from lightning_gradwatch.diagnosis.setup import clipped_away
from lightning_gradwatch.diagnosis.words import far, span
from lightning_gradwatch.events import EventKind, GradientEvent, Remedy
from lightning_gradwatch.rules.remedies import remedies
from lightning_gradwatch.rules.saturated import LARGE_GAIN
from lightning_gradwatch.rules.text import listed, number

_RATE, _DATA, _DIED, _SLOW, _GROWS, _SCHEDULE = 5, 6, 16, 20, 21, 29  # rows of the table of remedies
_SCALE, _LOSS, _OUTLIER = 32, 33, 8
_NOT_LONG = 20  # steps after a batch in which it may be the cause
_MUCH_MOMENTUM = 0.99  # 0.9 is usual
_KILLS = 0.3  # relative update of half of the matrices that may kill units
_SOUND = 0.01  # response of the loss; a sound network has about 1
_LEAST_UPDATE = 1e-4  # a tenth of what is usual
_SCALED_DOWN = 0.2  # of what the loss function gave
_USUAL_UPDATE = 1e-3  # CS231n
_OFF = 30.0  # rms of targets over that of the answers, or over 1
_TOO_LARGE = (
    EventKind.SPIKE,
    EventKind.EXPLOSION,
    EventKind.UPDATE_TOO_LARGE,
    EventKind.DIVERGING,
    EventKind.OFF_SCALE,
)
_NEED_FAST = (EventKind.SATURATED, EventKind.DEAD, EventKind.NONFINITE)
"""Kinds with many other causes: here only weights that really moved too fast are named."""

_FROM_A_BATCH = (EventKind.SPIKE, EventKind.EXPLOSION, EventKind.UPDATE_TOO_LARGE, EventKind.DIVERGING)


def weigh(event: GradientEvent, evidence: Evidence, history: History) -> Cause | None:
    """The cause of a finding; None if the evidence names none."""
    if event.kind is EventKind.STALLED:
        return _too_slow(event, evidence, history)
    if event.kind in _NEED_FAST:
        return _killed(event, evidence, history)
    return _too_large(event, evidence, history) if event.kind in _TOO_LARGE else None


def _too_large(event: GradientEvent, evidence: Evidence, history: History) -> Cause | None:
    """In this order, since each explains the next.

    A batch unlike the first; initial weights that are too large; targets and inputs that are not of order 1, though
    under Adam they do not make a step large; then a rate that moves the weights too fast.
    """
    if history.outlier is not None and event.kind in _FROM_A_BATCH:
        step, what = history.outlier
        if event.step - step <= _NOT_LONG:
            return Cause(_outlier(event, step, what), _OUTLIER)
    fast, large, data = _fast(event, history), _large_weights(history), off_scale(evidence)
    if large is not None:
        return large
    if event.kind is EventKind.OFF_SCALE:
        return data or Cause("the first outputs are far from order 1, though the inputs are not", _SCALE)
    if data is not None and not (history.adaptive and fast is not None):
        return data
    return None if fast is None else _rate(evidence, history, *fast)


def _outlier(event: GradientEvent, step: int, what: str) -> str:
    if event.kind is not EventKind.SPIKE:
        return f"outlier batch at step {step}: {what}"
    _, mark, signs = (event.cause or "").partition(" (")  # what the loss and the rate did
    return f"outlier batch: {what}{mark}{signs}"


def _fast(event: GradientEvent, history: History) -> tuple[int, float] | None:
    """A step that was too large not long before, or that left nothing of the weights at any time."""
    worst = history.fastest
    return history.too_fast(event.step) or (worst if worst is not None and worst[1] > _KILLS else None)


def _killed(event: GradientEvent, evidence: Evidence, history: History) -> Cause | None:
    """Weights that really moved too fast, before units died or numbers broke."""
    broken = event.kind is EventKind.NONFINITE
    large, data = _large_weights(history), off_scale(evidence)
    worst = history.too_fast(event.step) if broken else history.fastest
    if broken and large is not None and event.step <= _NOT_LONG:
        return large
    if worst is None or worst[1] <= _KILLS or not _died(event):
        return None
    return data if broken and data is not None and not history.adaptive else _rate(evidence, history, *worst)


def _died(event: GradientEvent) -> bool:
    """Whether it is no fault that was there from the start."""
    return event.kind is not EventKind.DEAD or event.remedies == remedies(_DIED)


def _too_slow(event: GradientEvent, evidence: Evidence, history: History) -> Cause | None:
    """Why steps have no effect, where the learning rate's schedule is not it."""
    if event.remedies == remedies(_SCHEDULE):
        return None
    clipped = clipped_away(evidence.setup, event.value)
    if clipped is not None:
        return clipped
    value, ratio = evidence.first.get("value"), history.first_loss
    if value and ratio is not None and 0 < ratio < _SCALED_DOWN * value:
        return Cause(f"the loss is scaled down: it is 1/{number(value / ratio)} of what the loss function gave", _LOSS)
    unscaled = value is not None and ratio is not None and ratio < value / _SCALED_DOWN
    sound = unscaled and history.response is not None and history.response > _SOUND
    if not history.adaptive and not sound:
        return None
    why = "under this optimizer its size is all that decides" if history.adaptive else "the gradient itself is sound"
    return Cause(f"the learning rate is too low: {_moves(event)}, and {why}", _SLOW)


def _moves(event: GradientEvent) -> str:
    return f"weights move by {number(event.value)} of their norm per step"


def off_scale(evidence: Evidence) -> Cause | None:
    """Inputs or targets that are not of order 1."""
    first = evidence.first
    target, answer = first.get("target"), first.get("answer", 0.0)
    if target is not None and target > _OFF * max(answer, 1.0):
        text = f"the targets are far from order 1: rms {number(target)}, of the first answers {number(answer)}"
        return Cause(text, _DATA)
    inputs = far(evidence)
    return Cause(f"the inputs are far from order 1: {inputs}", _DATA) if inputs else None


def advice(event: GradientEvent, cause: Cause, history: History) -> tuple[Remedy, ...]:
    """What to try; with a number where the evidence holds one."""
    found = remedies(cause.row)
    fast = history.too_fast(event.step) or history.fastest
    first, *others = found
    if cause.row == _SLOW and 0 < event.value < _LEAST_UPDATE:
        text = f"learning rate x {10.0 ** round(log10(_LEAST_UPDATE / event.value)):g}"
    elif cause.row == _RATE and history.momentum >= _MUCH_MOMENTUM:
        text = "momentum 0.9"
    elif cause.row == _RATE and fast is not None:
        text = f"learning rate / {_times(fast[1])}"
    else:
        return found
    return (Remedy(first.id, text, first.source), *others)


def _times(moved: float) -> str:
    """By how much to divide a rate whose first fast step moved the weights so far: 1, 2 or 5 times a power of ten."""
    times = max(10.0, 10 * moved / 0.1 if moved < 1 else moved / _USUAL_UPDATE / 10)
    power = 10.0 ** int(f"{times:e}".split("e")[1])
    return f"{next(step for step in (1, 2, 5, 10) if step * power >= times * 0.999) * power:g}"


def _rate(evidence: Evidence, history: History, step: int, moved: float) -> Cause:
    if history.momentum >= _MUCH_MOMENTUM:
        times = number(1 / max(1 - history.momentum, 1e-9))
        what = f"the momentum of {history.momentum:g} makes {times} of each step"
        return Cause(f"{what}: step {step} moved the weights by {number(moved)} of their norm", _RATE)
    known = [i for i in evidence.inputs if i.rms == i.rms]
    sound = f"; the inputs are of order 1 (rms {span([i.rms for i in known])})" if known and not far(evidence) else ""
    return Cause(
        f"the learning rate is too high: step {step} moved the weights by {number(moved)} of their norm{sound}", _RATE
    )


def _large_weights(history: History) -> Cause | None:
    large = {layer: gain for layer, (gain, _) in history.gains.items() if gain > LARGE_GAIN}
    if not large or 2 * len(large) < len(history.gains):
        return None
    layers = sorted(large, key=lambda layer: -large[layer])
    times = span(large.values())
    return Cause(
        f"initial weights too large in {listed(layers)}: {times} times what preserves the variance",
        _GROWS,
        tuple(layers),
    )
