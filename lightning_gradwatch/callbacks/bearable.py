# SPDX-License-Identifier: Apache-2.0
"""What the weights can bear of the learning rates of a coming step, where clipping is of no use."""

from __future__ import annotations

from typing import Any

from lightning_gradwatch.callbacks.bounds import rate_limited
from lightning_gradwatch.callbacks.keyed import Keyed
from lightning_gradwatch.callbacks.ledger import Ledger
from lightning_gradwatch.callbacks.step import StepRecord, StepResult
from lightning_gradwatch.events import GradientEvent
from lightning_gradwatch.laws import HeldRate, RateLimit
from lightning_gradwatch.meter import to_host
from lightning_gradwatch.snapshot import Floats


class BearableRates:
    """Limits the rates of Adam and its kin, and holds those of SGD that jump; of every optimizer.

    Args:
        limit: Largest relative update that is left alone.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._limits: dict[int, RateLimit] = {}
        self._held: Keyed[int, HeldRate] = Keyed()
        self._scales: dict[int, list[float]] = {}

    def scales(self, watch: Ledger) -> list[float]:
        """[G] what to multiply the rates of the groups by, as last found."""
        return self._scales.get(watch.index) or [1.0] * len(watch.optimizer.param_groups)

    def find(self, record: StepRecord, scale: float) -> GradientEvent | None:
        """Finds the multipliers of a coming step; the event that tells of them, where a rate has to give way.

        Args:
            record: The step.
            scale: What the rates are going to be multiplied by anyway.
        """
        watch, weights = record.watch, _weights(record)
        self._scales.pop(watch.index, None)
        if weights is None:
            return None
        limit, hold = self._limits.setdefault(watch.index, RateLimit(self._limit)), self._hold(watch)
        settings = watch.optimizer.param_groups
        limited = limit.scales(watch.meter.layout, weights, settings, watch.groups, scale)
        held = hold.scales(weights, settings, scale)
        found = [each for each in (limited, held) if each is not None]
        if not found:
            return None
        self._scales[watch.index] = scales = [min(of_group) for of_group in zip(*found, strict=True)]
        ratios = limit.ratios if held is None else [*limit.ratios, hold.ratio]
        return None if record.snapshot is None else rate_limited(record.snapshot, self._limit, ratios, scales)

    def learn(self, result: StepResult) -> None:
        """Takes in the gradient of a step that is over."""
        self._hold(result.watch).learn(result.watch.optimizer.param_groups, result.total_clipped)

    def state_dict(self) -> dict[int, dict[str, Any]]:
        """What is remembered of the momentum, by optimizer."""
        return self._held.state_dict()

    def load_state_dict(self, state: dict[int, dict[str, Any]]) -> None:
        """Continues where `state` was taken."""
        self._held.load_state_dict(state)

    def _hold(self, watch: Ledger) -> HeldRate:
        return self._held.get(watch.index, lambda: HeldRate(self._limit))


def _weights(record: StepRecord) -> Floats | None:
    """[P] norms of the weights; at the first step of all it may wait for them, later it takes those of before."""
    snapshot = record.snapshot
    if snapshot is not None and snapshot.layout is record.watch.meter.layout and snapshot.weight_norms is not None:
        return snapshot.weight_norms
    return to_host(record.numbers["weights"]) if "weights" in record.numbers else None
