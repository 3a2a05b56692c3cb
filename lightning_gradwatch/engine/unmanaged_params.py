# SPDX-License-Identifier: Apache-2.0
"""Parameters that get gradients, and that no optimizer holds."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_gradwatch.compat import deepspeed
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.measurement.meter import clean_name
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import listed
from lightning_gradwatch.snapshot import GradientSnapshot

_LEFT_OUT = 19  # row of the remedy table


def strays(trainer: Any, pl_module: Any) -> dict[str, Tensor]:
    """Parameters of the module by name that have a gradient and are in no optimizer.

    Lightning clears only what an optimizer holds, so their gradients stay and add up.
    """
    if any(deepspeed.is_engine(optimizer) for optimizer in trainer.optimizers):
        return {}  # its groups hold fragments of parameters
    held = {id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    return {
        clean_name(name): parameter
        for name, parameter in pl_module.named_parameters()
        if parameter.requires_grad and id(parameter) not in held and parameter.grad is not None
    }


def left_out(snapshot: GradientSnapshot, names: list[str], steps: int) -> GradientEvent:
    """The event for parameters of these names, found `steps` steps into the run."""
    layers = tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return event(
        snapshot,
        EventKind.NOT_UPDATED,
        Severity.WARNING,
        _LEFT_OUT,
        layers=layers,
        value=0.0,
        limit=0.0,
        message=f"{listed(list(layers))} got gradients for {steps} steps and are in no optimizer",
        cause="parameters missing from `configure_optimizers`",
    )
