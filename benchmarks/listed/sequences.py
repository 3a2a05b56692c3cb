# SPDX-License-Identifier: Apache-2.0
"""Small networks over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from benchmarks.listed import nets


class Recurrent(nn.Module):
    """A recurrent layer over [B, T, F], read out at the last step: [B, outputs]."""

    def __init__(self, rnn: nn.Module, hidden: int, outputs: int) -> None:
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(hidden, outputs)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(x)[0][:, -1])
        return out


def rnn(
    kind: nets.Module, sizes: tuple[int, int, int], weight: nets.Fill | None = None, **options: object
) -> Recurrent:
    """A recurrent layer and a read-out. `sizes`: inputs, hidden, outputs; `weight` fills the recurrent matrices."""
    inputs, hidden, outputs = sizes
    net = Recurrent(kind(inputs, hidden, batch_first=True, **options), hidden, outputs)
    return nets.init(net, weight, only="weight_hh") if weight else net


def spectral(radius: float) -> nets.Fill:
    """An orthogonal matrix times `radius`: the Jacobian of one time step has that norm (for tanh near zero)."""
    return lambda w: nn.init.orthogonal_(w, radius)


class Characters(nn.Module):
    """A transformer over characters [B, T] -> [B, 128, T], as cross-entropy wants it."""

    def __init__(self, width: int = 32, depth: int = 2, *, norm_first: bool = True, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(128, width), nn.Parameter(torch.randn(64, width) * 0.1)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, 128)
        if tied:
            nn.init.normal_(self.embed.weight, 0.0, width**-0.5)
            self.head.weight = self.embed.weight

    @override
    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        hidden = self.encoder(self.embed(x) + self.place[: x.shape[1]], mask=mask, is_causal=True)
        out: Tensor = self.head(hidden)
        return out.transpose(1, 2)
