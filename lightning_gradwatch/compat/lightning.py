# SPDX-License-Identifier: Apache-2.0
"""The private parts of Lightning and torch that we read or write, one function each, with a public fall-back.

Read on Lightning 2.1 to 2.6 and torch 2.4 to 2.13.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer


def scaler_of(trainer: Any) -> Any | None:
    """The enabled GradScaler of 16-bit training, or None."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler if scaler is not None and scaler.is_enabled() else None


def loss_scale(trainer: Any) -> Tensor | float | None:
    """The GradScaler's scale, on its device; None without one. Reading `_scale` costs no synchronisation."""
    scaler = scaler_of(trainer)
    if scaler is None:
        return None
    scale: Tensor | None = getattr(scaler, "_scale", None)
    return float(scaler.get_scale()) if scale is None else scale


def gradient_scale(trainer: Any, optimizer: Optimizer) -> Tensor | float | None:
    """What the gradients at the hook are still multiplied by; None if by nothing.

    Lightning unscales before the hook, but not for optimizers that unscale in their own step (``fused=True``).
    """
    scaler = scaler_of(trainer)
    if scaler is None:
        return None
    states = getattr(scaler, "_per_optimizer_states", None)
    if states is None:
        unscaled = not getattr(optimizer, "_step_supports_amp_scaling", False)
    else:
        stage = states[id(optimizer)].get("stage") if id(optimizer) in states else None
        unscaled = getattr(stage, "name", "READY") == "UNSCALED"
    return None if unscaled else loss_scale(trainer)


def at_boundary(trainer: Any) -> bool:
    """Whether an optimizer step is due. DeepSpeed accumulates by itself, and there the hook comes at every batch."""
    engine = getattr(trainer.strategy, "deepspeed_engine", None) if hasattr(trainer.strategy, "zero_stage_3") else None
    return engine is None or bool(engine.is_gradient_accumulation_boundary())


def log_step(trainer: Any) -> int:
    """The step axis of ``self.log``: batches that stepped, where `global_step` counts each of several optimizers."""
    stepped = getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", None)
    return int(trainer.global_step if stepped is None else stepped)


def position(trainer: Any, optimizer: int) -> dict[str, int]:
    """Where in the run we are, as fields of a snapshot."""
    return {
        "step": trainer.global_step,
        "log_step": log_step(trainer),
        "epoch": trainer.current_epoch,
        "batch_idx": trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1,
        "optimizer": optimizer,
    }


def learning_rate(optimizer: Optimizer) -> float | None:
    """The largest learning rate of the groups; None where reading it would wait for the device."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    return max((float(r) for r in rates if r is not None and not (isinstance(r, Tensor) and r.is_cuda)), default=None)


def end_training(trainer: Any) -> None:
    """Makes the `StopIteration` that the caller raises next end the fit, on unmet minima too."""
    trainer.should_stop = True
    trainer.fit_loop.min_epochs = 0
    trainer.fit_loop.epoch_loop.min_steps = None


def minima(trainer: Any) -> tuple[Any, Any]:
    """The Trainer's least epochs and steps, to be put back by `set_minima`."""
    return trainer.fit_loop.min_epochs, trainer.fit_loop.epoch_loop.min_steps


def set_minima(trainer: Any, kept: tuple[Any, Any]) -> None:
    """Undoes `end_training` once the fit is over."""
    trainer.fit_loop.min_epochs, trainer.fit_loop.epoch_loop.min_steps = kept


def skips_on_device(optimizer: Optimizer) -> bool:
    """Whether the optimizer honours a `found_inf` tensor: fused Adam, AdamW, Adagrad; fused SGD once its buffers exist.

    A skipped first step of fused SGD with momentum would leave its momentum buffer uninitialised.
    """
    if type(optimizer).__name__ not in ("Adam", "AdamW", "Adagrad", "SGD"):
        return False
    if not all(group.get("fused") for group in optimizer.param_groups):
        return False
    momentum = any(group.get("momentum") for group in optimizer.param_groups)
    return not momentum or all(
        "momentum_buffer" in optimizer.state[p]
        for group in optimizer.param_groups
        for p in group["params"]
        if p.grad is not None
    )


def skip_on_device(optimizer: Any, found_inf: Tensor) -> None:
    """Makes the coming step a true no-op where `found_inf` is 1.0, without waiting: GradScaler's own protocol."""
    optimizer.grad_scale = None
    optimizer.found_inf = found_inf


def forget_skip(optimizer: Any) -> None:
    """Takes `skip_on_device` back; the optimizer refuses a GradScaler that finds these attributes."""
    for attribute in ("grad_scale", "found_inf"):
        if hasattr(optimizer, attribute):
            delattr(optimizer, attribute)
