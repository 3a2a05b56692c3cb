# SPDX-License-Identifier: Apache-2.0
"""Means and maxima over an epoch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torchmetrics import MaxMetric, MeanMetric, Metric

_BUFFER = 256
"""Values gathered before torchmetrics gets them: one update costs as much as measuring a small network."""


class EpochAggregate:
    """Aggregates one number per step with torchmetrics; non-finite ones are left out.

    The values are equal on all ranks already, so nothing is reduced.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {
            "mean": MeanMetric(sync_on_compute=False),
            "max": MaxMetric(sync_on_compute=False),
        }
        for metric in self._metrics.values():
            metric.set_dtype(torch.float64)
            metric.persistent(mode=True)
        self._values: list[float] = []
        self._count = 0

    def add(self, value: float) -> None:
        """One step's number."""
        if math.isfinite(value):
            self._values.append(value)
            self._count += 1
        if len(self._values) >= _BUFFER:
            self._flush()

    def compute(self) -> dict[str, float]:
        """``mean`` and ``max`` of the epoch, empty if there was no value; then starts over."""
        self._flush()
        result = {name: float(metric.compute()) for name, metric in self._metrics.items()} if self._count else {}
        for metric in self._metrics.values():
            metric.reset()
        self._count = 0
        return result

    def state_dict(self) -> dict[str, Any]:
        """The epoch so far."""
        metrics = {name: metric.state_dict() for name, metric in self._metrics.items()}
        return {"metrics": metrics, "values": list(self._values), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        for name, metric in self._metrics.items():
            metric.load_state_dict(state["metrics"][name])
        self._values, self._count = list(state["values"]), state["count"]

    def _flush(self) -> None:
        if self._values:
            values = torch.tensor(self._values, dtype=torch.float64)
            for metric in self._metrics.values():
                metric.update(values)
            self._values = []
