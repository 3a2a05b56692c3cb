# SPDX-License-Identifier: Apache-2.0
"""From evidence to a cause: the first that fits, in the order in which one fault explains another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from lightning_gradwatch.diagnosis.cause import Cause
from lightning_gradwatch.diagnosis.evidence import Evidence
from lightning_gradwatch.diagnosis.growing import fast, growing, producer, variance
from lightning_gradwatch.diagnosis.inputs import nonfinite
from lightning_gradwatch.diagnosis.setup import clipped_away, decayed, no_warm_up, underflow
from lightning_gradwatch.diagnosis.words import DEEP, far, most, span, units
from lightning_gradwatch.events import EventKind
from lightning_gradwatch.rules.saturated import LARGE_GAIN
from lightning_gradwatch.rules.text import listed

_SMALL_GAIN = 0.2  # a third of what torch draws for a linear layer, the smallest in use
_MANY = 0.5  # share of units
_STANDARD = 0.1  # relative distance from a deviation of 1

_LOST = frozenset({EventKind.VANISHING, EventKind.STALLED, EventKind.DEAD, EventKind.SATURATED})


def find_cause(kind: EventKind, evidence: Evidence) -> Cause | None:
    """The cause that explains a finding of this kind best; None if nothing seen explains it."""
    return next((cause for look in _ORDER[kind in _LOST] if (cause := look(evidence)) is not None), None)


def _bad_input(evidence: Evidence) -> Cause | None:
    held = nonfinite(evidence.inputs)
    return Cause(f"the input: {held}", 11) if held else None


def _no_input(evidence: Evidence) -> Cause | None:
    """Nothing but zeros goes into the first layer."""
    first = evidence.scales[0] if evidence.scales else None
    if first is None or first.before != 0:
        return None
    return Cause(f"the input: all that goes into {first.layer} is exactly 0", 11, (first.layer,))


def _large_weights(evidence: Evidence) -> Cause | None:
    large = {layer: one for layer, one in evidence.gains.items() if one[0] > LARGE_GAIN}
    if not large:
        return None
    layers = sorted(large, key=lambda layer: -large[layer][0])
    standard = all(abs(rms - 1) < _STANDARD for _, rms in large.values())
    what = "N(0, 1) weights" if standard else "weights too large"
    flat = [a for a in most(evidence.activations) if a.function != "relu" and a.share > _MANY]
    then = f"; {units(flat)}" if flat else ""
    times = span(gain for gain, _ in large.values())
    text = f"{what} in {listed(layers)}: {times} times what preserves the variance{then}"
    return Cause(text, 17 if flat else 21, tuple(layers))


def _silent(evidence: Evidence) -> Cause | None:
    silent = evidence.silent
    return Cause(units(silent), 15, tuple(a.layer for a in silent)) if silent else None


def _saturated(evidence: Evidence) -> Cause | None:
    saturated = evidence.saturated
    if not saturated:
        return None
    first = evidence.scales[0].layer if evidence.scales else None
    inputs = far(evidence) if any(a.layer == first for a in saturated) else ""
    return Cause(
        units(saturated) + (f": the inputs are large, {inputs}" if inputs else ""),
        17,
        tuple(a.layer for a in saturated),
    )


def _collapse(evidence: Evidence) -> Cause | None:
    small = {layer: gain for layer, (gain, _) in evidence.gains.items() if gain < _SMALL_GAIN}
    if len(small) < max(2, len(evidence.gains) // 2):
        return None
    text = f"weights too small in {listed(list(small))}: {span(small.values())} times what preserves the variance"
    return Cause(text, 2, tuple(small))


def _product(evidence: Evidence) -> Cause | None:
    (function, layers), *_ = Counter(a.function for a in evidence.activations if a.function != "relu").most_common(
        1
    ) or [("", 0)]
    if layers < DEEP:
        return None
    limit = "of at most 1/4" if function == "sigmoid" else "below 1"
    without = "" if evidence.setup.normalised else "; no normalisation layer"
    return Cause(f"{function} derivatives {limit}, multiplied over {layers} layers{without}", 1)


def _large_input(evidence: Evidence) -> Cause | None:
    inputs = far(evidence)
    return Cause(f"the inputs are far from order 1: {inputs}", 6) if inputs else None


_Look = Callable[[Evidence], Cause | None]
_ORDER: dict[bool, Sequence[_Look]] = {
    True: (
        _bad_input,
        _no_input,
        lambda evidence: underflow(evidence.setup),
        lambda evidence: decayed(evidence.setup),
        lambda evidence: clipped_away(evidence.setup, evidence.update),
        _collapse,
        _silent,
        _large_weights,
        _saturated,
        _product,
        _large_input,
        lambda evidence: no_warm_up(evidence.setup),
    ),
    False: (
        _bad_input,
        producer,
        _large_input,
        _large_weights,
        variance,
        growing,
        fast,
        lambda evidence: no_warm_up(evidence.setup),
    ),
}
