# SPDX-License-Identifier: Apache-2.0
"""The loss belongs to one rank, so what depends on it is asked of all of them.

Every function here is a collective: it may be called only where all ranks come, such as after a finding in the
gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from statistics import fmean
from typing import Any

import torch

from lightning_gradwatch.snapshot import GradientSnapshot


def mean_over_ranks(trainer: Any) -> Callable[[list[float]], list[float]] | None:
    """The mean over ranks, number by number, of lists as long on all ranks; None on a single one."""
    if trainer.world_size == 1:
        return None

    def mean(values: list[float]) -> list[float]:
        # In double precision the mean of equal values is that value, so a mean may be taken again.
        losses = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
        reduced: list[float] = trainer.strategy.reduce(losses, reduce_op="mean").tolist()
        return reduced

    return mean


def with_culprit(trainer: Any, snapshot: GradientSnapshot) -> tuple[GradientSnapshot, int | None]:
    """The snapshot of a non-finite gradient with a loss that is the same on all ranks, and whose loss was at fault.

    That loss is the first non-finite one, else the mean. The rank is None where all losses are finite, or none is.
    """
    if trainer.world_size == 1:
        return snapshot, None
    slots = torch.zeros(trainer.world_size, dtype=torch.float64, device=trainer.strategy.root_device)
    slots[trainer.global_rank] = snapshot.loss or 0.0
    losses: list[float] = trainer.strategy.reduce(slots, reduce_op="sum").tolist()
    bad = [rank for rank, loss in enumerate(losses) if not isfinite(loss)]
    if snapshot.loss is not None:
        snapshot = replace(snapshot, loss=losses[bad[0]] if bad else fmean(losses))
    return snapshot, bad[0] if 0 < len(bad) < len(losses) else None
