# SPDX-License-Identifier: Apache-2.0
"""Transformers over characters, with the normalisation before, after, and nowhere; and an encoder with a decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from typing_extensions import override

from benchmarks.zoo import data
from benchmarks.zoo.core import Batch, Task
from benchmarks.zoo.families.tables import entropy
from benchmarks.zoo.family import family

TOKENS = frozenset({"classes", "tokens", "embedding", "attention", "residual"})


class Layer(nn.Module):
    """Causal attention and a perceptron, each added to what comes in."""

    def __init__(self, width: int, heads: int, norm: str) -> None:
        super().__init__()
        self.norm, self.heads = norm, heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        if norm != "none":
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def attend(self, x: Tensor) -> Tensor:
        """Attention over what came before."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out

    def think(self, x: Tensor) -> Tensor:
        """The perceptron."""
        out: Tensor = self.down(gelu(self.up(x)))
        return out

    @override
    def forward(self, x: Tensor) -> Tensor:
        if self.norm == "pre":
            x = x + self.attend(self.norm1(x))
            return x + self.think(self.norm2(x))
        if self.norm == "post":
            x = self.norm1(x + self.attend(x))
            out: Tensor = self.norm2(x + self.think(x))
            return out
        x = x + self.attend(x)
        return x + self.think(x)


class Language(nn.Module):
    """Guesses the next character: [B, T] -> [B, 128, T]. The output is tied to the embedding, as in GPT-2."""

    def __init__(self, norm: str, width: int = 32, depth: int = 3, *, tied: bool = True) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(128, width), nn.Embedding(64, width)
        self.blocks = nn.ModuleList(Layer(width, 4, norm) for _ in range(depth))
        self.last = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.head = nn.Linear(width, 128, bias=False)
        for table in (self.embed, self.place):
            nn.init.normal_(table.weight, 0.0, 0.02 if norm == "pre" else 0.2)
        if tied:
            self.head.weight = self.embed.weight

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.place.weight[: x.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        out: Tensor = self.head(self.last(hidden))
        return out.transpose(1, 2)


@family("tuning", sgd=0.3, adam=3e-3)
def gpt() -> Task:
    """Normalised before each part, tied to the embedding."""
    return Task(Language("pre"), *data.text(), entropy, tags=TOKENS | {"norm", "tied"})


@family("left out", sgd=0.2, adam=3e-3)
def post_norm_gpt() -> Task:
    """Normalised after each part, as the first transformer was."""
    return Task(Language("post", tied=False), *data.text(), entropy, tags=TOKENS | {"norm"})


@family("tuning", sgd=0.2, adam=2e-3)
def bare_gpt() -> Task:
    """Without normalisation."""
    return Task(Language("none", tied=False), *data.text(), entropy, tags=TOKENS)


class Translator(nn.Module):
    """An encoder and a decoder (Vaswani et al., 2017): (source [B, T], shifted target [B, T]) -> [B, 16, T]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(16, width), nn.Parameter(0.1 * torch.randn(8, width))
        layer = nn.TransformerEncoderLayer(width, 4, 64, 0.0, batch_first=True, norm_first=True)
        encoder = nn.TransformerEncoder(layer, 1, nn.LayerNorm(width), enable_nested_tensor=False)
        self.core = nn.Transformer(width, 4, 1, 1, 64, 0.0, custom_encoder=encoder, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 16)

    @override
    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        source, target = (self.embed(part) + self.place for part in x)
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        out: Tensor = self.head(self.core(source, target, tgt_mask=mask))
        return out.transpose(1, 2)


def mirrored() -> Batch:
    """Eight symbols, and the same backwards."""
    source = torch.randint(1, 16, (32, 8))
    target = source.flip(1)
    shifted = torch.cat([torch.zeros(32, 1, dtype=torch.long), target[:, :-1]], 1)
    return (source, shifted), target


@family("left out", sgd=0.3, adam=5e-3)
def seq2seq() -> Task:
    """Writes a sequence backwards."""
    return Task(Translator(), *data.drawn(mirrored, 250), entropy, tags=TOKENS | {"norm"})
