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
import torch.distributed as dist

from lightning_gradwatch.snapshot import GradientSnapshot

_AVERAGING_HOOKS = ("allreduce", "fp16_compress", "bf16_compress", "powersgd", "quantization_per")
"""Parts of the names of torch's communication hooks that leave the same gradient on all ranks."""


def ranks_agree(trainer: Any) -> bool:
    """Whether the strategy guarantees that all ranks see the same gradients at each step.

    Sharded gradients are made whole, so they are the same. Under DDP they are unless a communication hook reduces
    nothing, or weights are averaged now and then instead (post-local SGD). Of other strategies nothing is known.
    """
    strategy = trainer.strategy
    if trainer.world_size == 1 or hasattr(strategy, "sharding_strategy") or hasattr(strategy, "zero_stage_3"):
        return True
    names = {cls.__name__ for cls in type(strategy).__mro__}
    if names & {"FSDPStrategy", "ModelParallelStrategy"}:
        return True
    if "DDPStrategy" not in names or getattr(strategy, "_model_averager", None) is not None:
        return False
    return all(any(part in name for part in _AVERAGING_HOOKS) for name in comm_hooks(strategy))


def comm_hooks(strategy: Any) -> list[str]:
    """The names of the communication hooks of DDP, whoever has registered them. Lightning's own need CUDA."""
    hooks = [hook for hook, _ in getattr(strategy.model, "_comm_hooks", ())]
    if strategy.root_device.type == "cuda" and getattr(strategy, "_ddp_comm_hook", None) is not None:
        hooks.append(strategy._ddp_comm_hook)
    return [getattr(hook, "__name__", "").lower() for hook in hooks]


def worst_ending(trainer: Any, code: int) -> int:
    """The largest of the ranks' codes; a collective that every rank must call at each step, whatever it has found."""
    codes = torch.tensor(code, device=trainer.strategy.root_device)
    dist.all_reduce(codes, op=dist.ReduceOp.MAX)
    return int(codes)


def mean_over_ranks(trainer: Any) -> Callable[[list[float]], list[float]] | None:
    """The mean over ranks, number by number, of lists as long on all ranks; None where there is nothing to ask.

    That is on a single rank, and where ranks may find different things at different steps.
    """
    if trainer.world_size == 1 or not ranks_agree(trainer):
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
    if trainer.world_size == 1 or not ranks_agree(trainer):
        return snapshot, None
    slots = torch.zeros(trainer.world_size, dtype=torch.float64, device=trainer.strategy.root_device)
    slots[trainer.global_rank] = snapshot.loss or 0.0
    losses: list[float] = trainer.strategy.reduce(slots, reduce_op="sum").tolist()
    bad = [rank for rank, loss in enumerate(losses) if not isfinite(loss)]
    if snapshot.loss is not None:
        snapshot = replace(snapshot, loss=losses[bad[0]] if bad else fmean(losses))
    return snapshot, bad[0] if 0 < len(bad) < len(losses) else None
