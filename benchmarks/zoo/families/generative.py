# SPDX-License-Identifier: Apache-2.0
"""Models of where data comes from: diffusion, a flow, a variational autoencoder, a GAN."""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus
from typing_extensions import override

from benchmarks.listed.nets import mlp as perceptron
from benchmarks.zoo import data
from benchmarks.zoo.core import Batch, Learner, Run, Stepper, Task
from benchmarks.zoo.families.tables import squares
from benchmarks.zoo.family import family
from benchmarks.zoo.loops import optimizers


def moons() -> Tensor:
    """Two half circles [64, 2]."""
    angle, upper = torch.rand(64) * pi, torch.rand(64) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x - 0.5, y - 0.25], 1) + 0.05 * torch.randn(64, 2)


def diffused() -> Batch:
    """Points with noise, their time, and the noise (Ho et al., 2020)."""
    time, noise = torch.rand(64, 1), torch.randn(64, 2)
    keep = (time * pi / 2).cos()
    features = torch.cat([keep * moons() + (1 - keep**2).sqrt() * noise, time, keep], 1)
    return features, noise


@family("tuning", sgd=0.2, adam=3e-3)
def diffusion() -> Task:
    """Guesses the noise on points of two moons."""
    net = perceptron(4, 64, 64, 64, 2, act=nn.SiLU)
    return Task(net, *data.drawn(diffused, 250), squares, tags=frozenset({"numbers", "noisy"}))


class Coupling(nn.Module):
    """Real NVP (Dinh et al., 2017): each layer moves one coordinate by what the other says."""

    def __init__(self, depth: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(perceptron(1, 24, 24, 2, act=nn.Tanh) for _ in range(depth))

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        volume = x.new_zeros(len(x))
        for layer in self.layers:
            held, moved = x[:, :1], x[:, 1:]
            scale, shift = layer(held).chunk(2, 1)
            scale = scale.tanh()
            x = torch.cat([moved * scale.exp() + shift, held], 1)
            volume = volume + scale[:, 0]
        return x, volume


def likelihood(out: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
    """Negative log-likelihood under a standard normal; below zero once the fit is good."""
    z, volume = out
    return (0.5 * (z.square() + log(2 * pi)).sum(1) - volume).mean()


def points() -> Batch:
    """Points, in small units, so that their density is above 1."""
    x = 0.3 * moons()
    return x, x


@family("left out", sgd=0.05, adam=3e-3)
def flow() -> Task:
    """A normalising flow on two moons."""
    return Task(Coupling(), *data.drawn(points), likelihood, tags=frozenset({"points"}))


class Variational(nn.Module):
    """An encoder to eight latent numbers, and a decoder (Kingma and Welling, 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = perceptron(64, 64, 16), perceptron(8, 64, 64)

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.encoder(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * spread).exp() if self.training else mean
        return self.decoder(z), mean, spread


def evidence(out: tuple[Tensor, Tensor, Tensor], batch: Batch, weight: float = 0.01) -> Tensor:
    """Squared error and divergence from the prior."""
    guess, mean, spread = out
    divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1).mean()
    return mse_loss(guess, batch[0]) + weight * divergence


@family("tuning", sgd=0.2, adam=3e-3)
def vae() -> Task:
    """A variational autoencoder of digits, judged by what it restores."""
    train, check = data.table("digits", steps=200)

    def score(net: nn.Module, batch: Batch) -> Tensor:
        return mse_loss(net(batch[0])[0], batch[0])

    tags = frozenset({"latent", "relu parts", "noisy"})
    return Task(Variational(), train, check, evidence, score=score, tags=tags)


class Rivals(nn.Module):
    """A generator and a critic of points."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = perceptron(4, 32, 32, 2)
        self.critic = perceptron(2, 32, 32, 1, act=lambda: nn.LeakyReLU(0.2))

    @override
    def forward(self, noise: Tensor) -> Tensor:
        out: Tensor = self.generator(noise)
        return out


def rivalry(run: Run) -> Stepper:
    """Each takes a step in turn; the other rests."""

    def step(learner: Learner, batch: Batch, batch_idx: int) -> None:
        generator, critic = optimizers(learner)
        fake, judge = run.task.model(run.net, batch), run.net.get_submodule("critic")
        turn = softplus(-judge(batch[1])).mean() + softplus(judge(fake.detach())).mean()
        take(learner, critic, learner.note(turn))
        take(learner, generator, run.task.criterion(judge(fake), batch))

    return step


def take(learner: Learner, optimizer: object, loss: Tensor) -> None:
    """One step of one of them."""
    optimizer.zero_grad()  # type: ignore[attr-defined]
    learner.manual_backward(loss)
    optimizer.step()  # type: ignore[attr-defined]


def away() -> Batch:
    """Noise, and points around (2, 1)."""
    return torch.randn(64, 4), moons() * 0.5 + torch.tensor([2.0, 1.0])


@family("left out", sgd=None, adam=2e-3, stepper=rivalry, skip=("adagrad", "adafactor"))
def gan() -> Task:
    """A GAN with two optimizers, judged by how far off the mean of its points is."""

    def criterion(judged: Tensor, batch: Batch) -> Tensor:
        return softplus(-judged).mean()

    def score(net: nn.Module, batch: Batch) -> Tensor:
        apart: Tensor = (net(batch[0]).mean(0) - batch[1].mean(0)).norm()
        return apart

    task = Task(Rivals(), *data.drawn(away, 300), criterion, score=score, tags=frozenset({"rivals", "noisy"}))
    task.parts = ("generator", "critic")
    return task
