# SPDX-License-Identifier: Apache-2.0
"""What the output of an activation function tells of its units."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lightning_gradwatch.diagnosis.pieces import pieces, total

FUNCTIONS = ("relu", "relu6", "tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid")
"""Those that are read, by the names of the calls."""

_SLOPE = 0.05  # of the maximum


def kind(function: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
    """The function's name; one that is 0 below 0 is a ReLU, whatever it does above: `nn.ReLU6` is a hardtanh."""
    lowest = args[1] if len(args) > 1 else kwargs.get("min_val")
    return "relu" if function == "relu6" or (function == "hardtanh" and lowest == 0) else function


def silent(out: Tensor, axis: int) -> Tensor:
    """Share of units that are 0 on the whole batch; a unit is a channel where a convolution came before."""
    unit = (axis if out.dim() > 2 else -1) % out.dim()
    batch = [i for i in range(out.dim()) if i != unit]
    lowest, highest = (out.detach().amin(batch), out.detach().amax(batch)) if batch else (out.detach(), out.detach())
    return ((lowest == 0) & (highest == 0)).float().mean()


def flat(function: str, out: Tensor) -> Tensor:
    """Share of outputs where the derivative is below 5 % of its maximum."""
    beyond = [(_slope(function, piece.float()) < _SLOPE).sum() for piece in pieces(out.detach())]
    return total(beyond) / out.numel()


def _slope(function: str, y: Tensor) -> Tensor:
    """The derivative, as a share of its maximum, where the output is `y`."""
    if function == "tanh":
        return 1 - y.square()
    if function == "softsign":
        return (1 - y.abs()).square()
    if function == "hardtanh":
        return (y.abs() < 1).float()
    return 4 * y * (1 - y)  # both kinds of sigmoid end at 0 and 1
