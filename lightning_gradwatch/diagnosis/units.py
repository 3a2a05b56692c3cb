# SPDX-License-Identifier: Apache-2.0
"""What the output of an activation function tells of its units."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

FUNCTIONS = ("relu", "relu6", "tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid")
"""Those that are read, by the names of the calls."""

_SLOPE = 0.05  # of the maximum


def kind(function: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
    """The function's name; one that is 0 below 0 is a ReLU, whatever it does above: `nn.ReLU6` is a hardtanh."""
    lowest = args[1] if len(args) > 1 else kwargs.get("min_val")
    return "relu" if function == "relu6" or (function == "hardtanh" and lowest == 0) else function


def silent(out: Tensor, axis: int) -> Tensor:
    """Share of units that are 0 on the whole batch; a unit is a channel where a convolution came before."""
    units = out.detach().movedim(axis if out.dim() > 2 else -1, 0).reshape(out.shape[axis if out.dim() > 2 else -1], -1)
    return (units == 0).all(dim=1).float().mean()


def flat(function: str, out: Tensor) -> Tensor:
    """Share of outputs where the derivative is below 5 % of its maximum."""
    y = out.detach().float()
    if function == "tanh":
        slope = 1 - y.square()
    elif function == "softsign":
        slope = (1 - y.abs()).square()
    elif function == "hardtanh":
        slope = (y.abs() < 1).float()
    else:  # both kinds of sigmoid end at 0 and 1
        slope = 4 * y * (1 - y)
    return (slope < _SLOPE).float().mean()
