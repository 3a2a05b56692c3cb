# SPDX-License-Identifier: Apache-2.0
"""Architectures of the second batch: B = batch, T = time steps, F = features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from typing_extensions import override

from benchmarks.listed import nets


def group_norm_cnn() -> nn.Sequential:
    """Three convolutions with group normalisation for images [B, 1, 8, 8]."""
    layers: list[nn.Module] = []
    for n_in, n_out in ((1, 16), (16, 16), (16, 32)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.GroupNorm(4, n_out), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))


class Patches(nn.Module):
    """A vision transformer over the rows of an image [B, 1, 8, 8], read out at a class token."""

    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.embed, self.token = nn.Linear(8, width), nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(9, width))
        layer = nn.TransformerEncoderLayer(width, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    @override
    def forward(self, x: Tensor) -> Tensor:
        rows = self.embed(x.squeeze(1))
        rows = torch.cat([self.token.expand(len(x), -1, -1), rows], 1) + self.place
        out: Tensor = self.head(self.encoder(rows)[:, 0])
        return out


class Translator(nn.Module):
    """A GRU reads symbols [B, T], another one writes as many: logits [B, symbols, T]."""

    def __init__(self, symbols: int = 6, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols + 1, width)
        self.reader, self.writer = nn.GRU(width, width, batch_first=True), nn.GRU(width, width, batch_first=True)
        self.head, self.start = nn.Linear(width, symbols), symbols

    @override
    def forward(self, x: Tensor) -> Tensor:
        state = self.reader(self.embed(x))[1]
        fed = self.embed(torch.full_like(x, self.start))  # no teacher forcing: all must come through the state
        out: Tensor = self.head(self.writer(fed, state)[0])
        return out.transpose(1, 2)


class Variational(nn.Module):
    """A variational autoencoder with four latent numbers: [B, 64] -> reconstruction, mean and log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nets.mlp(64, 48, 8), nets.mlp(4, 48, 64)

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + (0.5 * log_variance).exp() * torch.randn_like(mean)), mean, log_variance


class Highway(nn.Module):
    """A layer that is nearly the identity until its gate opens (Srivastava et al., 2015)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -2.0)

    @override
    def forward(self, x: Tensor) -> Tensor:
        open_ = self.gate(x).sigmoid()
        out: Tensor = open_ * self.body(x).relu() + (1 - open_) * x
        return out


class UNet(nn.Module):
    """Down, up and across, for images [B, 1, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU())
        self.up, self.out = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(16, 1, 3, padding=1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        out: Tensor = self.out(torch.cat([high, self.up(self.deep(high))], 1))
        return out


class Sine(nn.Module):
    """A layer of a sinusoidal representation network (Sitzmann et al., 2020)."""

    def __init__(self, n_in: int, n_out: int, *, first: bool = False, omega: float = 30.0) -> None:
        super().__init__()
        self.linear, self.omega = nn.Linear(n_in, n_out), omega
        bound = 1 / n_in if first else (6 / n_in) ** 0.5 / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * self.linear(x))


def weight_normed() -> nn.Module:
    """Direction and length of each row are parameters of their own."""
    return nn.Sequential(*(weight_norm(m) if isinstance(m, nn.Linear) else m for m in nets.small()))


class Tagger(nn.Module):
    """A recurrent layer over [B, T, F] read out at every step: [T, B, outputs] log-probabilities, as CTC wants them."""

    def __init__(self, inputs: int, outputs: int, width: int = 48) -> None:
        super().__init__()
        self.rnn = nn.LSTM(inputs, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, outputs)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(x)[0]).log_softmax(-1).transpose(0, 1)
        return out


class Bag(nn.Module):
    """The mean of the vectors of a text's characters [B, T]; one row is padding and never learns."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(129, 24, padding_idx=128)
        self.head = nets.mlp(24, 32, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.table(x))
        return out


class Attention(nn.Module):
    """One head of attention over the rows of a digit [B, 64], with logits times `scale`."""

    def __init__(self, scale: float = 8**-0.5) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 32) for _ in range(3))
        self.head, self.scale = nn.Linear(32, 10), scale

    @override
    def forward(self, x: Tensor) -> Tensor:
        rows = x.view(-1, 8, 8)
        share = (self.q(rows) @ self.k(rows).transpose(1, 2) * self.scale).softmax(-1)
        out: Tensor = self.head((share @ self.v(rows)).mean(1))
        return out
