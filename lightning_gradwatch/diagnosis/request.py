# SPDX-License-Identifier: Apache-2.0
"""A finding that is being looked into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning_gradwatch.diagnosis.inputs import Input
from lightning_gradwatch.events import GradientEvent


@dataclass(slots=True)
class Readings:
    """What has been read since a finding, batch by batch.

    Attributes:
        numbers: What `ForwardProbe.take` gave, as numbers on the host.
        inputs: What `inspect` gave.
    """

    numbers: list[dict[str, float]] = field(default_factory=list)
    inputs: list[list[Input]] = field(default_factory=list)


@dataclass(slots=True)
class Request:
    """A finding, and what was read since.

    Attributes:
        owner: Which callback found it: `Participant.sort_key`.
        event: The finding.
        then: The inputs of its batch; empty if they are not known.
        readings: What was read since.
        begun: Batches that were chosen to be looked at.
        looks: Those of them whose numbers have come, also where nothing could be read.
    """

    owner: tuple[str, str]
    event: GradientEvent
    then: Sequence[Input]
    readings: Readings = field(default_factory=Readings)
    begun: int = 0
    looks: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain types, so that ``torch.load(weights_only=True)`` reads it."""
        return {**asdict(self), "event": self.event.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Request:
        """The request that `to_dict` wrote."""
        readings = data["readings"]
        inputs = [[Input(**one) for one in batch] for batch in readings["inputs"]]
        event, then = GradientEvent.from_dict(data["event"]), [Input(**one) for one in data["then"]]
        return cls(
            tuple(data["owner"]), event, then, Readings(readings["numbers"], inputs), data["looks"], data["looks"]
        )
