# SPDX-License-Identifier: Apache-2.0
"""Healthy runs: more architectures."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from typing_extensions import override

from benchmarks.listed import data, nets, parts, sequences
from benchmarks.listed.case import REPORTING, TUNING, healthy
from benchmarks.listed.second.nets import (
    Bag,
    Highway,
    Patches,
    Sine,
    Translator,
    UNet,
    Variational,
    group_norm_cnn,
    weight_normed,
)
from benchmarks.listed.second.tasks import Streaming, Uncertain
from benchmarks.listed.tasks import Run, adam, digits, fit, sgd


class Siamese(nn.Module):
    """One network for both halves of the batch: how alike two digits are."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.scale = nets.mlp(64, 64, 16), nn.Parameter(torch.tensor([1.0, 0.0]))

    @override
    def forward(self, x: Tensor) -> Tensor:
        one, two = self.encoder(x).chunk(2)
        distance: Tensor = self.scale[1] - self.scale[0].exp() * (one - two).square().mean(1)
        return distance


def same(out: Tensor, y: Tensor) -> Tensor:
    """Whether two digits have the same class; one pair in ten has."""
    one, two = y.chunk(2)
    return binary_cross_entropy_with_logits(out, (one == two).float())


def reversing() -> Run:
    """Four symbols, to be written in reverse."""
    symbols = [torch.randint(6, (64, 4)) for _ in range(300)]
    return fit(Translator(), [(s, s.flip(1)) for s in symbols], adam(5e-3), gradient_clip_val=1.0)


def evidence(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    """The negative evidence lower bound."""
    made, mean, log_variance = out
    divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
    return (made - x).square().sum(1).mean() + divergence


def wave() -> Run:
    """A function of one number, by its samples."""
    x = torch.linspace(-1, 1, 256)[:, None]
    net = nn.Sequential(Sine(1, 32, first=True), Sine(32, 32), nn.Linear(32, 1))
    return fit(net, [(x, torch.sin(12 * x) * x)] * 250, adam(1e-3), mse_loss)


def denoised() -> Run:
    """Images from their noisy selves."""
    return fit(UNet(), [(x + 0.5 * torch.randn_like(x), x) for x, _ in data.images(150, 32)], adam(3e-3), mse_loss)


def stream() -> Run:
    """A text read on and on, 16 characters at a time."""
    long = data.text(1, 16, 16 * 150)[0]
    net = nn.ModuleDict(
        {"embed": nn.Embedding(128, 24), "rnn": nn.LSTM(24, 48, batch_first=True), "head": nn.Linear(48, 128)}
    )
    batches = list(zip(*(torch.split(part, 16, 1) for part in long), strict=True))
    return Run(Streaming(net, nn.functional.cross_entropy, adam(5e-3)), batches, {})


def vowels() -> Run:
    """The share of vowels in a text, padded to 32 characters."""
    batches = []
    for x, _ in data.text(200, 32, 32):
        short = x.where(torch.arange(32) < torch.randint(8, 33, (32, 1)), 128)
        batches.append((short, torch.isin(short, torch.tensor(list(b"aeiou"))).float().mean(1, keepdim=True) * 5))
    return fit(Bag(), batches, adam(1e-2), mse_loss)


def highway() -> nn.Module:
    """Twelve highway layers."""
    return nn.Sequential(nn.Linear(64, 32), *(Highway(32) for _ in range(12)), nn.Linear(32, 10))


CASES = (
    healthy(
        "cnn_groupnorm", REPORTING, "no batch statistics", lambda: fit(group_norm_cnn(), data.images(150), adam(3e-3))
    ),
    healthy("siamese", TUNING, "one network, used twice", lambda: digits(Siamese(), adam(3e-3), loss=same, size=128)),
    healthy("gru_to_gru", REPORTING, "the reader learns through the writer alone", reversing),
    healthy(
        "vision_transformer",
        TUNING,
        "a class token that starts at zero",
        lambda: fit(Patches(), data.images(150), adam(3e-3)),
    ),
    healthy(
        "variational_autoencoder",
        REPORTING,
        "noise in the middle, a posterior that may collapse",
        lambda: fit(Variational(), [(x, x) for x, _ in data.digits()], adam(3e-3), evidence),
    ),
    healthy("weight_norm", TUNING, "rows by direction and length", lambda: digits(weight_normed(), sgd(0.1))),
    healthy("highway_12", REPORTING, "gates that are nearly shut", lambda: digits(highway(), adam(3e-3))),
    healthy("u_net", TUNING, "a way around the depth", denoised),
    healthy("sinusoidal_network", REPORTING, "gradients times 30 per layer", wave),
    healthy("truncated_bptt", TUNING, "a state without a gradient", stream),
    healthy("bag_of_characters", REPORTING, "a row that never learns", vowels),
    healthy(
        "uncertainty_weights", TUNING, "a loss that falls below zero", lambda: Run(Uncertain(), data.digits(300), {})
    ),
    healthy(
        "checkpointed_transformer",
        REPORTING,
        "the forward pass runs twice",
        lambda: fit(parts.Checkpointed(sequences.Characters()), data.text(120), adam(3e-3)),
    ),
)
