# SPDX-License-Identifier: Apache-2.0
"""How a step becomes a true no-op: weights, optimizer state and step counters untouched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


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


def zero_gradients(parameters: Sequence[Tensor]) -> None:
    """For a step that is undone afterwards: some optimizers raise where no parameter has a gradient."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = torch.zeros_like(parameter)


class Rollback:
    """Weights, state and settings of an optimizer, from before a step that may have to be undone.

    Args:
        optimizer: Right before its step.

    Attributes:
        is_whole: Whether all of it could be copied.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.is_whole = True
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._weights = [p.detach().clone() for p in self._parameters]
        self._state = {
            p: {key: self._copy(value) for key, value in state.items()} for p, state in optimizer.state.items()
        }
        # The learning rate is scaled and restored elsewhere.
        self._settings = [
            {key: self._copy(value) for key, value in group.items() if key not in ("params", "lr")}
            for group in optimizer.param_groups
        ]

    def restore(self) -> None:
        """Puts everything back."""
        for parameter, weight in zip(self._parameters, self._weights, strict=True):
            parameter.detach().copy_(weight)
        self._optimizer.state.clear()
        self._optimizer.state.update(self._state)
        for group, settings in zip(self._optimizer.param_groups, self._settings, strict=True):
            group.update(settings)

    def _copy(self, value: Any) -> Any:
        """LBFGS changes its tensors and lists in place, but never a tensor in a list: its history stays as it is."""
        if isinstance(value, Tensor):
            try:
                return value.clone()
            except NotImplementedError:  # some quantized states have no copy
                self.is_whole = False
                return value
        if isinstance(value, dict):
            return {key: self._copy(part) for key, part in value.items()}
        return list(value) if isinstance(value, list) else value
