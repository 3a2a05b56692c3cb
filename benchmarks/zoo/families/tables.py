# SPDX-License-Identifier: Apache-2.0
"""Perceptrons and a transformer on tables."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from typing_extensions import override

from benchmarks.listed.nets import mlp as perceptron
from benchmarks.zoo import data
from benchmarks.zoo.core import Batch, Task
from benchmarks.zoo.family import family

CLASSES = frozenset({"float inputs", "classes"})
NUMBERS = frozenset({"float inputs", "numbers"})


def entropy(out: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of classes [B] or of sequences [B, T]."""
    return cross_entropy(out, batch[1])


def squares(out: Tensor, batch: Batch) -> Tensor:
    """Mean squared error."""
    return mse_loss(out, batch[1])


@family("tuning", sgd=0.2, adam=3e-3)
def mlp() -> Task:
    """ReLU, on digits."""
    return Task(perceptron(64, 64, 64, 10), *data.table("digits"), entropy, tags=CLASSES | {"relu", "plain"})


@family("left out", sgd=0.05, adam=3e-3)
def regressor() -> Task:
    """GELU, on the diabetes data."""
    net = perceptron(10, 32, 32, 1, act=nn.GELU)
    return Task(net, *data.table("diabetes"), squares, tags=NUMBERS | {"plain"})


@family("left out", sgd=0.3, adam=3e-3)
def deep_tanh() -> Task:
    """Eight layers with Xavier weights, on wine."""
    net = perceptron(13, *[48] * 7, 3, act=nn.Tanh)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain("tanh"))
    return Task(net, *data.table("wine"), entropy, tags=CLASSES | {"flat", "deep", "plain"})


@family("tuning", sgd=0.2, adam=3e-3)
def selu_mlp() -> Task:
    """A self-normalising network of six layers (Klambauer et al., 2017), on breast cancer."""
    net = perceptron(30, *[32] * 5, 2, act=nn.SELU)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    return Task(net, *data.table("breast_cancer"), entropy, tags=CLASSES | {"deep", "plain"})


class FeatureTokenizer(nn.Module):
    """One token per column, and one to read out from (Gorishniy et al., 2021)."""

    def __init__(self, columns: int, width: int, classes: int, depth: int = 2) -> None:
        super().__init__()
        bound = width**-0.5
        self.scale = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        self.shift = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        self.readout = nn.Parameter(torch.empty(1, 1, width).uniform_(-bound, bound))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    @override
    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.readout.expand(len(x), -1, -1), x[..., None] * self.scale + self.shift], 1)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.head(self.norm(tokens[:, 0]))
        return out


@family("tuning", sgd=0.1, adam=2e-3)
def ft_transformer() -> Task:
    """The transformer for tables, on wine."""
    tags = CLASSES | {"attention", "norm", "residual"}
    return Task(FeatureTokenizer(13, 24, 3), *data.table("wine"), entropy, tags=tags)
