# SPDX-License-Identifier: Apache-2.0
"""A label is a claim about the outcome of the run; here the outcome is asked."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from math import isfinite

from benchmarks.zoo.compose import Spec
from benchmarks.zoo.fault import Fault

WORSE = 0.25
"""The share of what the sound twin gains that a sick run must lose."""

LEARNT = 0.2
"""The share of the score before the first step that a sound run must gain."""

GAINED = 0.4
"""The share of what the sound twin gains that a healthy run must gain."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        start: The score on clean batches before the first step.
        end: After the last.
        moved: Parameters that are not what they were.
        bad_step: The first batch with a loss that is not finite, or None.
        steps: Batches.
        layer: The layers at fault.
        onset: The step at which the fault set in.
    """

    start: float
    end: float
    moved: frozenset[str]
    bad_step: int | None
    steps: int
    layer: str | None
    onset: int


def proven(spec: Spec, sound: Outcome, this: Outcome) -> tuple[bool, str]:
    """Whether the outcome agrees with the label, and the outcome in words."""
    words = f"clean score {sound.start:.3g} -> {this.end:.3g}, sound {sound.end:.3g}"
    gain = sound.start - sound.end
    if not learnt(sound):
        return False, f"{words}: the sound twin does not learn"
    lost = (this.end - sound.end) / gain if isfinite(this.end) else float("inf")
    if not isinstance(spec.change, Fault):
        return lost <= 1 - GAINED, words
    if spec.change.still and this.layer and lost < WORSE:
        held = [n for n in sound.moved - this.moved if fnmatch(f"net.{n}", f"{this.layer}*")]
        return bool(held), f"{words}; {len(held)} parameters at fault stand still"
    return lost >= WORSE, words


def learnt(sound: Outcome) -> bool:
    """Whether a sound run ends clearly better than it began."""
    return isfinite(sound.end) and sound.start - sound.end > max(LEARNT * abs(sound.start), 1e-3)
