# SPDX-License-Identifier: Apache-2.0
"""What a user should know about a Trainer before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer

from lightning_gradwatch.compat import lightning
from lightning_gradwatch.compat.distributed import comm_hooks

_EDITS = ("on_before_optimizer_step", "configure_gradient_clipping")


def later_edits(trainer: Any, pl_module: Any) -> list[str]:
    """Who may change gradients after us: hooks of the user's module, and the Trainer's own clipping."""
    hooks = [f"{type(pl_module).__name__}.{name}" for name in _EDITS if _overridden(pl_module, name)]
    return hooks + (["Trainer(gradient_clip_val)"] if trainer.gradient_clip_val else [])


def notes(trainer: Any, pl_module: Any, optimizers: Iterable[Optimizer], *, waits: bool) -> list[str]:
    """Sentences for the start of a run.

    Args:
        trainer: The Trainer.
        pl_module: The LightningModule.
        optimizers: Those that are watched.
        waits: Whether the host has to see each step's numbers before it is taken.
    """
    edits = [name for name in later_edits(trainer, pl_module) if "gradient_clip_val" not in name]
    lines = [f"{', '.join(edits)} may change gradients after us; what it makes of them is not checked"] if edits else []
    slow = [type(optimizer).__name__ for optimizer in optimizers if waits and _could_be_fused(optimizer)]
    if slow and lightning.scaler_of(trainer) is None:
        lines.append(
            f"{slow[0]}(..., fused=True) would skip bad steps on the device; without, each step waits for the device"
        )
    if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in pl_module.parameters()):
        lines.append(
            "hooks of the parameters act within the backward pass (gradient release?): where the optimizer steps there,"
            " nothing can be measured, clipped or skipped"
        )
    if runs_elsewhere(trainer):
        lines.append(
            "the training runs in processes of its own, so detector.events stays empty in the one that started it; the"
            " loggers, checkpoints and on_gradient_event have the events"
        )
    if _feeds_errors_back(trainer):
        lines.append("PowerSGD keeps a NaN in its error feedback for good: a run with one has to be resumed")
    return lines


def _overridden(pl_module: Any, name: str) -> bool:
    origin = getattr(getattr(type(pl_module), name, None), "__module__", "").partition(".")[0]
    return name in vars(pl_module) or origin not in ("lightning", "pytorch_lightning")


def _could_be_fused(optimizer: Optimizer) -> bool:
    group = optimizer.param_groups[0]
    on_cuda = any(p.is_cuda for p in group["params"])
    return on_cuda and "fused" in group and not group["fused"]


def _feeds_errors_back(trainer: Any) -> bool:
    return any("powersgd" in name for name in comm_hooks(trainer.strategy))


def runs_elsewhere(trainer: Any) -> bool:
    """Whether Lightning trains in processes that it starts and ends: ddp_spawn, ddp_fork, ddp_notebook."""
    return getattr(trainer.strategy, "_start_method", "popen") not in (None, "popen")
