# SPDX-License-Identifier: Apache-2.0
"""How far optimizers move the weights per learning rate, as far as that is known from their class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import LBFGS, SGD, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop, Rprop, SparseAdam

ADAM_LIKE = (Adam, AdamW, Adamax, NAdam, RAdam, SparseAdam, RMSprop)
"""They move each entry by about the learning rate, whatever the gradient (Kingma & Ba 2014, section 2.1)."""


def is_sgd(optimizer: Optimizer) -> bool:
    """Whether it is torch's own SGD; a subclass may do anything."""
    return type(unwrapped(optimizer)) is SGD


def is_adam_like(optimizer: Optimizer) -> bool:
    """Whether it is one of torch's own that divide by the size of the gradients."""
    return type(unwrapped(optimizer)) in ADAM_LIKE


def is_torch_own(optimizer: Optimizer) -> bool:
    """Whether its step is that of one of torch's classes, which do nothing without gradients."""
    home: str = type(unwrapped(optimizer)).step.__module__
    return home.startswith("torch.optim.")


def searches(optimizer: Optimizer) -> bool:
    """Whether it evaluates its closure several times in one step."""
    return isinstance(unwrapped(optimizer), LBFGS)


def finds_rate(group: Mapping[str, Any]) -> bool:
    """Whether the optimizer finds the group's rate by itself, so that its first steps are trials.

    D-Adaptation and Prodigy estimate `d` from how far ``d * lr`` has led; Adafactor takes relative steps.
    """
    return "d" in group or "d0" in group or bool(group.get("relative_step"))


def obeys_rate(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether multiplying the group's ``lr`` for one step slows that step down, and does nothing else.

    Not so where there is none, where the optimizer finds its rate by itself, and for Rprop, which reads it only once.
    """
    return group.get("lr") is not None and not finds_rate(group) and not isinstance(unwrapped(optimizer), Rprop)


def known_rate(group: Mapping[str, Any]) -> float:
    """The learning rate; 0 where there is none, or it is on another device, where reading it would wait."""
    lr = group.get("lr")
    return 0.0 if lr is None or (isinstance(lr, Tensor) and lr.device.type != "cpu") else float(lr)


def momentum_of(group: Mapping[str, Any]) -> float:
    """The momentum of a group of SGD, below 1."""
    return min(float(group["momentum"]), 0.999)


def sgd_reach(group: Mapping[str, Any]) -> float:
    """How far SGD moves the weights by one gradient until its momentum is spent, as a multiple of that gradient.

    The learning rate times ``(1 - dampening) / (1 - momentum)``; without momentum there is no dampening.
    """
    momentum = momentum_of(group)
    fresh = 1.0 - float(group["dampening"]) if momentum else 1.0
    return known_rate(group) * max(fresh, 0.0) / (1.0 - momentum)


def unwrapped(optimizer: Any) -> Any:
    """The optimizer inside torch's `ZeroRedundancyOptimizer` and DeepSpeed's wrappers."""
    inner = getattr(optimizer, "optim", None) or getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, Optimizer) else optimizer
