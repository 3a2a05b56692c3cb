# SPDX-License-Identifier: Apache-2.0
"""What a fault declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.zoo.core import Run
from benchmarks.zoo.family import Side

Cause = Literal[
    "rate too high",
    "rate too low",
    "schedule",
    "momentum",
    "decay",
    "clipping",
    "weights put back",
    "no zero_grad",
    "loss formula",
    "inputs not scaled",
    "targets not scaled",
    "bad batch",
    "initialisation",
    "dead units",
    "saturation",
    "activation",
    "no normalisation",
    "recurrence",
    "not in optimizer",
    "detached",
    "collapse",
    "precision",
]
"""What was done to the run, in words of its own: no id and no wording of the package."""

TOO_LARGE = ("explosion", "update_too_large", "nonfinite", "spike", "level_shift", "diverging", "saturated", "dead")
"""A step far too large grows, breaks, saturates or kills; each finding is right."""

NOTHING = ("stalled", "not_updated", "vanishing", "dead", "disconnected", "saturated")
"""Too little arrives, wherever that is seen."""


@dataclass(frozen=True)
class Fault:
    """A patch that makes a sound run sick.

    Attributes:
        name: Unique.
        side: Whether rules may be tuned on it.
        patch: Changes the run; may set `layer` and `onset` there.
        kinds: What may be found. Any of them is right.
        causes: What may be named; the first is what was done, the others say the same.
        needs: Tags that the run must have.
        unless: Tags that it must not have.
        subtle: Barely visible in gradients; counted like the others.
        rescue: Whether actions on gradients and rates could save the run.
        still: Proven if the layers at fault end where they began, though the rest learns.
    """

    name: str
    side: Side
    patch: Callable[[Run], None]
    kinds: frozenset[str]
    causes: tuple[Cause, ...]
    needs: frozenset[str] = frozenset()
    unless: frozenset[str] = frozenset()
    subtle: bool = False
    rescue: bool = False
    still: bool = False

    def fits(self, tags: frozenset[str]) -> bool:
        """Whether a run with these tags can have the fault."""
        return self.needs <= tags and not self.unless & tags


FAULTS: dict[str, Fault] = {}


def fault(
    side: Side,
    kinds: Iterable[str],
    *causes: Cause,
    needs: Iterable[str] = (),
    unless: Iterable[str] = (),
    subtle: bool = False,
    rescue: bool = False,
    still: bool = False,
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Declares the decorated patch as a fault under its own name."""

    def declare(patch: Callable[[Run], None]) -> Callable[[Run], None]:
        FAULTS[patch.__name__] = Fault(
            patch.__name__,
            side,
            patch,
            frozenset(kinds),
            causes,
            frozenset(needs),
            frozenset(unless),
            subtle,
            rescue,
            still,
        )
        return patch

    return declare
