# SPDX-License-Identifier: Apache-2.0
"""Physics, dynamics, graphs."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from typing_extensions import override

from benchmarks.listed.nets import mlp as perceptron
from benchmarks.zoo import data
from benchmarks.zoo.core import Batch, Task
from benchmarks.zoo.families.tables import squares
from benchmarks.zoo.family import family


class Dynamics(nn.Module):
    """A neural differential equation, by Runge and Kutta (Chen et al., 2018): where [B, 2] ends after a while."""

    def __init__(self, steps: int = 6) -> None:
        super().__init__()
        self.slope, self.steps = perceptron(2, 32, 32, 2, act=nn.Tanh), steps

    @override
    def forward(self, x: Tensor) -> Tensor:
        h = 1.0 / self.steps
        for _ in range(self.steps):
            a = self.slope(x)
            b = self.slope(x + h / 2 * a)
            c = self.slope(x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + self.slope(x + h * c))
        return x


def spiral() -> Batch:
    """States, and where a damped pendulum takes them."""
    x = 2 * torch.randn(32, 2)
    y = x
    for _ in range(20):
        y = y + 0.05 * torch.stack([2 * y[:, 1], -4 * y[:, 0].sin() - 0.3 * y[:, 1]], 1)
    return x, y


@family("left out", sgd=0.02, adam=5e-3)
def neural_ode() -> Task:
    """A damped pendulum."""
    return Task(Dynamics(), *data.drawn(spiral), squares, tags=frozenset({"float inputs", "numbers", "flat"}))


def places() -> Batch:
    """Places within [0, 1], and what drives the equation there."""
    x = torch.rand(64, 1)
    return x, (pi * x).sin()


def residual(net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """U'' + 10 sin(pi x) of the network, and u at both ends."""
    x = batch[0].detach().requires_grad_()
    u = net(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return bend + 10.0 * batch[1], net(x.new_tensor([[0.0], [1.0]]))


def physics(out: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
    """The equation inside, and the values at the border."""
    return out[0].square().mean() + 10 * out[1].square().mean()


@family("tuning", sgd=0.002, adam=3e-3)
def pinn() -> Task:
    """A physics-informed network for Poisson's equation, judged by the known solution."""

    def score(net: nn.Module, batch: Batch) -> Tensor:
        out: Tensor = net(batch[0])
        error: Tensor = (out - 10 * batch[1] / pi**2).square().mean()
        return error

    net = perceptron(1, 32, 32, 32, 1, act=nn.Tanh)
    tags = frozenset({"equation", "flat"})
    return Task(net, *data.drawn(places, 300), physics, residual, score, tags)


class Graphs(nn.Module):
    """Two graph convolutions (Kipf and Welling, 2017): nodes [N, F] with a normalised adjacency [N, N]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    @override
    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        nodes, links = x
        hidden = (links @ self.first(nodes)).relu()
        out: Tensor = self.head((links @ self.second(hidden)).relu())
        return out


MEANS = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)) * 0.5


def communities() -> Batch:
    """Three communities of nodes with noisy features, more links inside than between."""
    label = torch.randint(3, (60,))
    chance = torch.where(label[:, None] == label, 0.2, 0.03)
    links = (torch.rand(60, 60) < chance).triu(1).float()
    links = links + links.T + torch.eye(60)
    degree = links.sum(1).rsqrt()
    return (MEANS[label] + torch.randn(60, 8), degree[:, None] * links * degree), label


@family("tuning", sgd=0.3, adam=5e-3)
def graph_net() -> Task:
    """Which community a node is of."""

    def criterion(out: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(out, batch[1])

    return Task(Graphs(), *data.drawn(communities), criterion, tags=frozenset({"classes", "graph"}))
