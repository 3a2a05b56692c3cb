# SPDX-License-Identifier: Apache-2.0
"""What one system said about one run, and whether it was right."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from benchmarks.listed.case import Case

OURS = "lightning_gradwatch"
OURS_ALL = "lightning_gradwatch, warnings too"
NAMED_LAYERS = 3  # "worst first": naming all layers of the network is no answer


@dataclass(frozen=True)
class Alarm:
    """One alarm. `layers` is None where the system names none."""

    step: int
    kinds: frozenset[str]
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """What one system said about one run.

    Attributes:
        case: The configuration.
        seed: The seed.
        steps: Optimizer steps of the bare run.
        bad_step: The first step of the bare run with a non-finite loss or gradient, or None.
        alarms: All alarms, in order.
        changed: Whether the run differs from the bare one; None where that is not measured.
    """

    case: Case
    seed: int
    steps: int
    bad_step: int | None
    alarms: tuple[Alarm, ...]
    changed: bool | None

    @property
    def timely(self) -> list[Alarm]:
        """Alarms since the fault set in."""
        return [alarm for alarm in self.alarms if alarm.step >= self.case.onset]

    @property
    def right(self) -> list[Alarm]:
        """Timely alarms of a kind that fits."""
        return [alarm for alarm in self.timely if alarm.kinds & self.case.kinds]

    @property
    def right_layer(self) -> bool:
        """Whether an alarm of a kind that fits names a layer at fault among its first."""
        pattern = self.case.layer or "*"
        named = (layer for alarm in self.right for layer in (alarm.layers or ())[:NAMED_LAYERS])
        return any(fnmatch(layer, pattern) for layer in named)

    @property
    def delay(self) -> int | None:
        """Steps from the onset to the first alarm."""
        return self.timely[0].step - self.case.onset if self.timely else None

    @property
    def could_warn(self) -> bool:
        """Whether the run was still finite at its onset and became non-finite later."""
        return self.bad_step is not None and self.bad_step > self.case.onset

    @property
    def lead(self) -> int | None:
        """Steps from the first alarm to the first non-finite number, if it came before that."""
        if self.bad_step is None or self.delay is None:
            return None
        lead = self.bad_step - self.case.onset - self.delay
        return lead if lead > 0 else None


def verdicts(result: dict[str, Any], case: Case) -> dict[str, Verdict]:
    """One verdict per system, from one result of `measure`."""
    said = {name: [Alarm(step, frozenset(kinds)) for step, kinds in spans] for name, spans in result["alarms"].items()}
    if "events" in result:
        severe = {OURS: ("alarm",), OURS_ALL: ("alarm", "warning")}
        said = {name: _ours(result["events"], severities) for name, severities in severe.items()} | said
    run = (result["seed"], result["steps"], result["bad_step"])
    changed = dict.fromkeys((OURS, OURS_ALL), result.get("changed"))
    return {name: Verdict(case, *run, tuple(alarms), changed.get(name)) for name, alarms in said.items()}


def _ours(events: list[dict[str, Any]], severities: tuple[str, ...]) -> list[Alarm]:
    found = [event for event in events if event["severity"] in severities]
    alarms = [Alarm(e["step"], frozenset([e["kind"]]), tuple(e["layers"])) for e in found]
    return sorted(alarms, key=lambda alarm: alarm.step)
