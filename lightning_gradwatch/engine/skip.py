# SPDX-License-Identifier: Apache-2.0
"""How a step becomes a true no-op: weights, optimizer state and step counters untouched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer


def skip_on_host(parameters: Sequence[Tensor], *, scaled: bool) -> None:
    """Makes the coming step of an ordinary optimizer a no-op.

    Without gradients no optimizer moves anything. Zeros would not do: momentum and weight decay would still act. An
    optimizer that unscales in its own step needs a gradient to look at, so there one becomes infinite, and its
    GradScaler skips the step as it always does (and lowers its scale).

    Args:
        parameters: All of the optimizer.
        scaled: Whether the optimizer unscales in its own step.
    """
    for parameter in parameters:
        if scaled and parameter.grad is not None:
            parameter.grad.fill_(torch.inf)
            return
        parameter.grad = None


class Rollback:
    """Weights and state from before a step of LBFGS, which moves the weights between its closures.

    Args:
        optimizer: Right before its step.
    """

    def __init__(self, optimizer: LBFGS) -> None:
        self._optimizer: Optimizer = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._weights = [p.detach().clone() for p in self._parameters]
        self._state = {p: {key: _copy(value) for key, value in state.items()} for p, state in optimizer.state.items()}

    def restore(self) -> None:
        """Puts everything back."""
        for parameter, weight in zip(self._parameters, self._weights, strict=True):
            parameter.detach().copy_(weight)
        self._optimizer.state.clear()
        self._optimizer.state.update(self._state)


def _copy(value: Any) -> Any:
    """LBFGS changes its tensors and lists in place, but never a tensor in a list: its history need not be doubled."""
    if isinstance(value, Tensor):
        return value.clone()
    return list(value) if isinstance(value, list) else value
