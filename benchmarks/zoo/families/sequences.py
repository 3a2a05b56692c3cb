# SPDX-License-Identifier: Apache-2.0
"""Recurrent networks and convolutions over time."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from typing_extensions import override

from benchmarks.listed.sequences import Recurrent
from benchmarks.zoo import data
from benchmarks.zoo.core import Batch, Task
from benchmarks.zoo.families.tables import CLASSES, NUMBERS, entropy, squares
from benchmarks.zoo.family import family


class Letters(nn.Module):
    """An LSTM that guesses the next character: [B, T] -> [B, 128, T]."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 24)
        self.rnn, self.head = nn.LSTM(24, width, batch_first=True), nn.Linear(width, 128)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(self.embed(x))[0])
        return out.transpose(1, 2)


@family("tuning", sgd=2.0, adam=1e-2)
def lstm() -> Task:
    """Characters of a manual."""
    return Task(Letters(), *data.text(), entropy, tags=frozenset({"classes", "recurrent", "embedding", "tokens"}))


def waves() -> Batch:
    """Sums of two sines with noise [B, 24, 1], and their next value [B, 1]."""
    time = torch.arange(25.0)
    speed, phase = torch.rand(32, 2, 1) * 0.6 + 0.1, torch.rand(32, 2, 1) * 2 * pi
    x = (speed * time + phase).sin().sum(1) + 0.05 * torch.randn(32, 25)
    return x[:, :-1, None], x[:, -1:]


@family("left out", sgd=0.1, adam=5e-3)
def gru() -> Task:
    """Forecasts a time series."""
    net = Recurrent(nn.GRU(1, 32, batch_first=True), 32, 1)
    return Task(net, *data.drawn(waves), squares, tags=NUMBERS | {"recurrent"})


@family("left out", sgd=0.1, adam=3e-3)
def rnn() -> Task:
    """A tanh RNN over the rows of a digit."""
    net = Recurrent(nn.RNN(8, 48, batch_first=True), 48, 10)
    return Task(net, *data.rows(), entropy, tags=CLASSES | {"recurrent"})


class Causal(nn.Module):
    """Dilated causal convolutions with short cuts (Bai et al., 2018)."""

    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=2**i) for i in range(depth))
        self.head = nn.Linear(width, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.enter(x.transpose(1, 2))
        for i, layer in enumerate(self.layers):
            hidden = hidden + layer(pad(hidden, (2 * 2**i, 0))).relu()
        out: Tensor = self.head(hidden[..., -1])
        return out


@family("tuning", sgd=0.05, adam=3e-3)
def tcn() -> Task:
    """Forecasts a time series."""
    return Task(Causal(), *data.drawn(waves), squares, tags=NUMBERS | {"relu", "residual"})
