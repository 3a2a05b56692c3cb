# SPDX-License-Identifier: Apache-2.0
"""Evidence in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from lightning_gradwatch.diagnosis.evidence import Activation, Evidence, Scale
from lightning_gradwatch.rules.text import listed, number

DEEP = 4
"""Layers that a product needs."""

_FAR_FROM_ONE = 10.0  # rms of an input
_WORTH_TELLING = 0.1  # share of units


def account(evidence: Evidence) -> list[str]:
    """What was seen, good or bad, as at most four lines of evidence."""
    lines = []
    if evidence.inputs:
        lines.append(
            "inputs: "
            + ", ".join(f"{i.path} rms {number(i.rms)}, largest {number(i.largest)}" for i in evidence.inputs[:3])
        )
    if evidence.activations:
        parts = [f"{_percent(a.share)} {_state(a)} after {a.layer}" for a in most(evidence.activations)]
        lines.append("units: " + ", ".join(parts))
    factor = growth(evidence.scales)
    if factor is not None:
        ends = [f"{s.layer} ({number(s.after)})" for s in (evidence.scales[0], evidence.scales[-1])]
        lines.append(f"signal: x{number(factor)} per layer from {' to '.join(ends)}")
    known = [] if evidence.update is None else [f"weights move by {number(evidence.update)} of their norm per step"]
    known += ["normalised" if evidence.setup.normalised else "no normalisation layer"]
    lines.append("net: " + ", ".join([*known, "residual paths" if evidence.residual else "no residual path"]))
    return lines


def far(evidence: Evidence) -> str:
    """The inputs far from order 1, with their rms; empty if there is none."""
    large = [i for i in evidence.inputs if isfinite(i.rms) and i.rms > _FAR_FROM_ONE]
    return ", ".join(f"{i.path} has rms {number(i.rms)}" for i in large)


def growth(scales: Sequence[Scale]) -> float | None:
    """Geometric mean of the factor from layer to layer; None where it is not defined."""
    if len(scales) < DEEP:
        return None
    first, last = scales[0].after, scales[-1].after
    usable = isfinite(first) and isfinite(last) and first > 0 and last > 0
    return float((last / first) ** (1 / (len(scales) - 1))) if usable else None


def units(worst: Sequence[Activation]) -> str:
    """``97 % of the ReLUs silent after a, b``: the share of the first."""
    return f"{_percent(worst[0].share)} {_state(worst[0])} after {listed([a.layer for a in worst])}"


def _state(activation: Activation) -> str:
    return "of the ReLUs silent" if activation.function == "relu" else f"of the {activation.function} outputs saturated"


def most(activations: Sequence[Activation]) -> list[Activation]:
    """The three with the largest shares that are worth telling, and the first in any case."""
    worst = sorted(activations, key=lambda a: -a.share)
    return [a for i, a in enumerate(worst[:3]) if i == 0 or a.share > _WORTH_TELLING]


def span(values: Iterable[float]) -> str:
    """``4.5 to 8``, or one number."""
    ordered = [number(value) for value in sorted(values)]
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
