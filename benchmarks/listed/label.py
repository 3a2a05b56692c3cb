# SPDX-License-Identifier: Apache-2.0
"""A label is a claim about the outcome of the run; here the outcome is asked."""

from __future__ import annotations

from math import isfinite
from statistics import median

from benchmarks.listed.case import Case
from benchmarks.listed.outcome import FaultCheck

LEARNT = 0.9


def check(case: Case, curve: list[float], bad_step: int | None, fault: FaultCheck | None) -> tuple[bool, str]:
    """Whether the outcome agrees with the label, and the outcome in words.

    Args:
        case: The label.
        curve: What the run is judged by, one number per batch, lower is better.
        bad_step: The first step with a non-finite loss or gradient.
        fault: Whether the named parameters have the fault that is claimed; None where no fault is.
    """
    start, end = ends(curve[case.since :])
    words = f"{start:.3g} -> {end:.3g}" + ("" if bad_step is None else f", non-finite at step {bad_step}")
    if case.fault and fault:
        holds = fault.holds(case.fault[0])
        return holds, f"{words}; {len(fault.matched)} parameters {'' if holds else 'NOT '}with {case.fault[0]!r}"
    learnt = isfinite(end) and end < LEARNT * min(start, case.chance)
    if case.sick:
        return not learnt, words
    if case.below is not None:
        return isfinite(end) and max(start, end) < case.below, words
    return learnt, words


def ends(curve: list[float]) -> tuple[float, float]:
    """Where the run started and where it ended; the very first value counts, for runs that blow up within 10 steps."""
    late = curve[-max(10, len(curve) // 6) :]
    # A median that ignored NaN would call a run that ends in NaN sound.
    end = median(late) if all(map(isfinite, late)) else float("nan")
    early = [value for value in curve[:10] if isfinite(value)]
    return min(median(early), early[0]) if early else float("nan"), end
