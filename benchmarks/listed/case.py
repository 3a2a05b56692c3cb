# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - details are the fields of Case
"""What one configuration of the zoo declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import torch

from benchmarks.listed.tasks import Run
from lightning_gradwatch.events import EventKind

Half = Literal["tuning", "reporting"]
TUNING: Half = "tuning"
REPORTING: Half = "reporting"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration with its label.

    Attributes:
        name: Unique; says what is special.
        half: Rules are tuned on one half and reported on the other. Never changed once a rule has seen it.
        make: Builds the run from the global random state.
        sick: The label. A sick run must not learn, or have the `fault`; a healthy run must learn, or stay `below`.
        kinds: Sick: what may be found. Any of them is right.
        layer: Sick: fnmatch pattern of the layers at fault, None where all are.
        onset: Sick: the optimizer step at which the fault sets in. What is said before does not count as detection.
        fault: Sick, though other layers learn: what is wrong and with which parameters (fnmatch pattern).
        chance: Sick: the loss of the best constant answer. A run that starts far above and comes down to it has learnt
            nothing.
        reason: Healthy: why a detector could be deceived.
        since: Healthy: progress is judged from this step on, since the task changes there.
        below: Healthy, with nothing left to learn: the loss starts and stays below this.
    """

    name: str
    half: Half
    make: Callable[[], Run]
    sick: bool
    kinds: frozenset[EventKind] = frozenset()
    layer: str | None = None
    onset: int = 0
    fault: tuple[Literal["no gradient", "not updated"], str] | None = None
    chance: float = inf
    reason: str = ""
    since: int = 0
    below: float | None = None

    def build(self, seed: int) -> Run:
        """The run of one seed: equal seeds give bit-identical runs."""
        torch.manual_seed(seed)
        return self.make()


def sick(name: str, half: Half, kinds: set[EventKind], make: Callable[[], Run], **details: Any) -> Case:
    """A run that must be found."""
    return Case(name=name, half=half, sick=True, kinds=frozenset(kinds), make=make, **details)


def healthy(name: str, half: Half, reason: str, make: Callable[[], Run], **details: Any) -> Case:
    """A run on which nothing may be said."""
    return Case(name=name, half=half, sick=False, reason=reason, make=make, **details)
