# SPDX-License-Identifier: Apache-2.0
"""Numbers that a snapshot does not hold, since they are costly and read only now and then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProbeReading:
    """What was read of one batch; the same on all ranks.

    Attributes:
        at: Batches of the run up to that one, which tells looks apart.
        fading: By recurrent layer: base-10 logarithm of the gradient at the first tenth of the time steps over that at
            the last.
        saturated: By layer: share of its tanh or sigmoid outputs with hardly any slope left. None if nobody looked.
    """

    at: int
    fading: dict[str, float] = field(default_factory=dict)
    saturated: dict[str, float] | None = None


class ProbeRule(ABC):
    """A rule that learns from looks.

    Attributes:
        wants_look: Whether it has reason to look at the units of the next batch.
    """

    wants_look: bool = False

    @abstractmethod
    def learn(self, look: ProbeReading) -> None:
        """Takes a look. Called before `judge`, and again with the same look where several steps follow one batch."""
