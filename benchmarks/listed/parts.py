# SPDX-License-Identifier: Apache-2.0
"""Sound networks whose gradients look odd: gates at zero, idle experts, adapters, tables of which few rows are read."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from benchmarks.listed import data, nets


class LoRA(nn.Module):
    """A frozen linear layer and a low-rank update whose second factor starts at zero (Hu et al., 2022)."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = frozen(base)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + 4.0 * self.up(self.down(x))
        return out


def with_lora(net: nn.Sequential) -> nn.Module:
    """`net` with an adapter on each linear layer."""
    return nn.Sequential(*(LoRA(layer) if isinstance(layer, nn.Linear) else layer for layer in net))


class Experts(nn.Module):
    """A mixture of experts, one per sample; some get no sample for many steps."""

    def __init__(self, experts: int = 12) -> None:
        super().__init__()
        self.gate = nn.Linear(64, experts)
        self.experts = nn.ModuleList(nets.mlp(64, 64, 10) for _ in range(experts))

    @override
    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.gate(x).softmax(1).max(1)
        out = x.new_zeros(len(x), 10)
        for i, expert in enumerate(self.experts):
            if (mine := chosen == i).any():
                out = out.index_put((mine.nonzero()[:, 0],), expert(x[mine]) * share[mine, None])
        return out


class Words(nn.Module):
    """A large table of which each batch reads a few rows: pairs of characters by their hash."""

    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(4096, 16, sparse=sparse), nn.Linear(16 * 4, 128)

    @override
    def forward(self, x: Tensor) -> Tensor:
        pairs = (x[:, :-1] * 31 + x[:, 1:]) % 4096
        out: Tensor = self.head(self.table(pairs[:, -4:]).flatten(1))
        return out


class Checkpointed(nn.Module):
    """The forward pass is repeated during the backward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return out


class Prototypes(nn.Module):
    """Cosine similarity to class vectors over a small temperature."""

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        self.body, self.vectors = nets.mlp(64, 64, 32), nn.Parameter(torch.randn(10, 32))
        self.temperature = temperature

    @override
    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.body(x)) @ normalize(self.vectors).T / self.temperature


def pretrained(net: nets.Net, batches: list[data.Batch]) -> nets.Net:
    """`net` after one step of Adam per batch, without Lightning."""
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for x, y in batches:
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(net(x), y))
        optimizer.step()
    return net


def frozen(net: nets.Net, *names: str) -> nets.Net:
    """`net` with parameters frozen: those whose names start with one of `names`, or all if no name is given."""
    for name, p in net.named_parameters():
        p.requires_grad = bool(names) and not name.startswith(names)
    return net
