# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - options that are passed on are whatever torch takes
"""Small networks, sound or with one fault."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

Module = Callable[..., nn.Module]
Net = TypeVar("Net", bound=nn.Module)
Fill = Callable[[Tensor], Tensor]
DIGITS = (64, 64, 64, 10)
DEEP = (64, *[32] * 20, 10)


def mlp(*sizes: int, act: Module = nn.ReLU, norm: Module | None = None, bias: bool = True) -> nn.Sequential:
    """Linear layers with an activation in between, and a normalisation before it where given."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        if i:
            layers += [*([norm(n_in)] if norm else []), act()]
        layers.append(nn.Linear(n_in, n_out, bias=bias))
    return nn.Sequential(*layers)


def small() -> nn.Sequential:
    """Two hidden layers for digits."""
    return mlp(*DIGITS)


class Lambda(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def init(net: Net, weight: Fill, bias: float = 0.0, only: str = "") -> Net:
    """`net` with its matrices set by `weight` and its vectors set to `bias`, where the name contains `only`."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            if only in name:
                weight(p) if p.dim() > 1 else p.fill_(bias)
    return net


def normal(std: float) -> Fill:
    """N(0, std^2) weights, whatever the width."""
    return lambda w: nn.init.normal_(w, 0.0, std)


def he(factor: float = 1.0) -> Fill:
    """He's initialisation for ReLU, times `factor`."""
    return lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu").mul_(factor)


def xavier(gain: float = 1.0) -> Fill:
    """Xavier's initialisation for tanh, times `gain`."""
    return lambda w: nn.init.xavier_normal_(w, gain)


class Residual(nn.Module):
    """x + gate * inner(x)."""

    def __init__(self, *inner: nn.Module, gate: float | None = None, drop: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)
        self.gate = None if gate is None else nn.Parameter(torch.tensor([gate]))
        self.drop = drop

    @override
    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.drop and torch.rand(()) < self.drop:
            return x
        out: Tensor = self.inner(x)
        return x + (out if self.gate is None else self.gate * out)


def residual(depth: int, width: int = 32, *, norm: bool = True, zero: bool = False, **block: Any) -> nn.Sequential:
    """Residual blocks of two linear layers; `zero`: each block starts as the identity."""
    blocks = []
    for _ in range(depth):
        last = nn.Linear(width, width)
        if zero:
            nn.init.zeros_(last.weight)
        front = [nn.LayerNorm(width)] if norm else []
        blocks.append(Residual(*front, nn.Linear(width, width), nn.ReLU(), last, **block))
    return nn.Sequential(nn.Linear(64, width), *blocks, nn.Linear(width, 10))


def cnn(act: Module = nn.ReLU, *, norm: bool = True, drop: float = 0.0) -> nn.Sequential:
    """Two convolutions for images [B, 1, 8, 8]."""
    first = [nn.Conv2d(1, 8, 3, padding=1), *([nn.BatchNorm2d(8)] if norm else []), act()]
    second = [nn.Conv2d(8, 16, 3, padding=1), *([nn.BatchNorm2d(16)] if norm else []), act()]
    return nn.Sequential(*first, *second, nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(drop), nn.Linear(256, 10))
