# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - what differs between the two runs has any type
"""What one configuration declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.listed.case import Half
from benchmarks.listed.tasks import Run

OTHER_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A run with one fault, and the same run without.

    Attributes:
        name: Unique; says what the fault is.
        half: Defaults are tuned on one half and reported on the other.
        make: Builds the run from the global random state, and from the one thing that differs.
        sick: What `make` gets with the fault.
        sound: What it gets without.
        poisoned: The batches that the fault is in; None where it is not in the data.
    """

    name: str
    half: Half
    make: Callable[[Any], Run]
    sick: Any
    sound: Any
    poisoned: slice | None = None

    def build(self, seed: int, *, sound: bool) -> Run:
        """The run of one seed: equal seeds give equal initial weights and batches."""
        torch.manual_seed(seed)
        return self.make(self.sound if sound else self.sick)

    def judge(self, seed: int) -> Run:
        """A sound run on other batches of the same kind, to judge by."""
        return self.build(seed + OTHER_SEED, sound=True)


def pair(name: str, half: Half, make: Callable[[Any], Run], sick: Any, sound: Any, **options: Any) -> Pair:
    """A pair, in short."""
    return Pair(name=name, half=half, make=make, sick=sick, sound=sound, **options)
