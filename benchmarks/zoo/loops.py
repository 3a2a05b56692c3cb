# SPDX-License-Identifier: Apache-2.0

"""Training steps that are no single forward, backward, step."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.core import Batch, Learner


def optimizers(learner: Learner) -> list[Any]:
    """The optimizers, one or several."""
    found: Any = learner.optimizers()
    return list(found) if isinstance(found, list) else [found]


def advance(learner: Learner, index: int | None = None) -> None:
    """One step of the schedule of one optimizer, or of all."""
    schedules: Any = learner.lr_schedulers()
    every = schedules if isinstance(schedules, list) else [schedules]
    for schedule in every if index is None else [every[index]]:
        schedule.step()


def several(learner: Learner, batch: Batch, batch_idx: int) -> None:
    """One backward pass, and a step of each optimizer."""
    every = optimizers(learner)
    for optimizer in every:
        optimizer.zero_grad()
    learner.manual_backward(learner.note(learner.run.loss(batch)))
    for optimizer in every:
        optimizer.step()
    advance(learner)
