# SPDX-License-Identifier: Apache-2.0
"""A step that is over, but whose numbers the host has not seen yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gradwatch.engine.step import StepRecord
from lightning_gradwatch.measurement.transfer import Transfer, send
from lightning_gradwatch.snapshot import Floats


@dataclass(slots=True)
class Deferred:
    """One step between two machines.

    Attributes:
        transfer: The numbers that travel; None once they have arrived.
        known: The numbers that the host has.
        where: The position in the run.
        lr: Its learning rate.
        scalars: What goes to the loggers, by tag.
    """

    transfer: Transfer | None
    known: dict[str, Floats]
    where: dict[str, int]
    lr: float | None
    scalars: dict[str, float]

    @classmethod
    def of(cls, record: StepRecord, after: Mapping[str, Tensor | Floats], lr: float | None) -> Deferred:
        """Sends a step off; `after` is what was measured once it was over."""
        results = {
            "factor": record.factor,
            "bound_factor": record.bound_factor,
            "total_clipped": record.total_clipped,
            "guarded": float(record.guard),
        }
        numbers = {**record.numbers, **after, **{name: torch.as_tensor(value) for name, value in results.items()}}
        transfer, near = send(numbers, record.reading.norms.device)
        return cls(transfer, near, record.where, lr, record.scalars)

    def arrive(self) -> dict[str, Floats]:
        """All numbers, each flat; waits until they are there."""
        if self.transfer is not None:
            self.known |= self.transfer.arrive()
            self.transfer = None
        return self.known

    def share(self, mean: Callable[[list[float]], list[float]]) -> None:
        """Replaces this rank's loss by the mean over ranks, for a checkpoint that keeps rank zero's state."""
        numbers = self.arrive()
        if "loss" in numbers:
            numbers["loss"] = np.array(mean(numbers["loss"].tolist()))

    def state_dict(self) -> dict[str, Any]:
        """Plain types, unjudged."""
        known = {name: values.tolist() for name, values in self.arrive().items()}
        return {"known": known, "where": self.where, "lr": self.lr, "scalars": self.scalars}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Deferred:
        """What `state_dict` wrote."""
        known = {name: np.array(values, dtype=np.float64) for name, values in state["known"].items()}
        return cls(None, known, state["where"], state["lr"], state["scalars"])
