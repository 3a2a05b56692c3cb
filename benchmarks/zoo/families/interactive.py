# SPDX-License-Identifier: Apache-2.0
"""Policies, recommenders, contrasts, experts, adapters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, mse_loss, normalize, smooth_l1_loss
from typing_extensions import override

from benchmarks.listed.nets import mlp as perceptron
from benchmarks.listed.parts import LoRA, frozen, pretrained
from benchmarks.zoo import data
from benchmarks.zoo.core import Batch, Task
from benchmarks.zoo.families.tables import CLASSES, entropy
from benchmarks.zoo.family import family


class ActorCritic(nn.Module):
    """What to do, and what a place is worth."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.actor, self.critic = perceptron(2, 48, 48), nn.Linear(48, 3), nn.Linear(48, 1)

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x).tanh()
        return log_softmax(self.actor(hidden), 1), self.critic(hidden)[:, 0]


def push(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a cart on a line that is pushed to the left, not at all, or to the right; the reward."""
    speed = 0.9 * state[:, 1] + 0.4 * (action - 1)
    state = torch.stack([state[:, 0] + 0.5 * speed, speed], 1).clamp(-3, 3)
    return state, -state[:, 0].abs()


def rollout(net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eight steps of all carts: log-probabilities, values, returns, entropy."""
    state, logs, values, rewards, spread = batch[0], [], [], [], []
    for _ in range(8):
        policy, value = net(state)
        action = torch.multinomial(policy.exp().nan_to_num(1 / 3), 1)
        state, reward = push(state, action[:, 0])
        logs.append(policy.gather(1, action)[:, 0])
        values.append(value)
        rewards.append(reward)
        spread.append(-(policy.exp() * policy).sum(1))
    returns = [torch.zeros_like(rewards[0])]
    for reward in reversed(rewards):
        returns.append(reward + 0.9 * returns[-1])
    return torch.stack(logs), torch.stack(values), torch.stack(returns[:0:-1]), torch.stack(spread)


def advantage(out: tuple[Tensor, ...], batch: Batch) -> Tensor:
    """Advantage actor-critic (Mnih et al., 2016)."""
    logs, values, returns, spread = out
    gain = returns - values.detach()
    return -(logs * gain).mean() + 0.5 * smooth_l1_loss(values, returns) - 0.01 * spread.mean()


@torch.no_grad()
def distance(net: nn.Module, batch: Batch) -> Tensor:
    """How far from the middle the carts end under the likeliest actions."""
    state = batch[0]
    for _ in range(8):
        state, _ = push(state, net(state)[0].argmax(1))
    off: Tensor = state[:, 0].abs().mean()
    return off


def carts() -> Batch:
    """Carts anywhere."""
    state = torch.rand(64, 2) * torch.tensor([4.0, 2.0]) - torch.tensor([2.0, 1.0])
    return state, state


@family("left out", sgd=0.1, adam=5e-3)
def actor_critic() -> Task:
    """Reinforcement learning on a cart."""
    task = Task(ActorCritic(), *data.drawn(carts), advantage, rollout, distance)
    task.tags = frozenset({"noisy", "policy"})
    return task


class Factors(nn.Module):
    """Users and items as vectors, whose product is the rating (Koren et al., 2009)."""

    def __init__(self, users: int = 60, items: int = 80, width: int = 8) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)
        self.offset = nn.Parameter(torch.zeros(()))
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, 0.0, 0.3)

    @override
    def forward(self, x: Tensor) -> Tensor:
        rated: Tensor = (self.users(x[:, 0]) * self.items(x[:, 1])).sum(1) + self.offset
        return rated


@family("tuning", sgd=2.0, adam=2e-2, skip=("sgd",))
def recommender() -> Task:
    """Matrix factorisation on generated ratings."""
    taste, appeal = torch.randn(60, 3), torch.randn(80, 3)

    def ratings() -> Batch:
        who, what = torch.randint(60, (128,)), torch.randint(80, (128,))
        stars = 1.0 + (taste[who] * appeal[what]).sum(1) / 3**0.5 + 0.1 * torch.randn(128)
        return torch.stack([who, what], 1), stars

    def criterion(out: Tensor, batch: Batch) -> Tensor:
        return mse_loss(out, batch[1])

    return Task(Factors(), *data.drawn(ratings, 300), criterion, tags=frozenset({"numbers", "tables"}))


def pairs(net: nn.Module, batch: Batch) -> Tensor:
    """How alike two views of each digit are, over a temperature."""
    one, two = (normalize(net(batch[0] + 0.3 * noise)) for noise in batch[1])
    return one @ two.T / 0.2


@family("left out", sgd=0.3, adam=3e-3)
def contrastive() -> Task:
    """Tells its own other view from those of others (Chen et al., 2020)."""

    def views(batch: Batch) -> Batch:
        return batch[0], torch.randn(2, *batch[0].shape)

    def criterion(out: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(out, torch.arange(len(out)))

    train, check = ([views(batch) for batch in part] for part in data.table("digits", size=48))
    return Task(perceptron(64, 64, 64, 16), train, check, criterion, pairs, tags=frozenset({"relu", "plain", "views"}))


class Experts(nn.Module):
    """A router and four experts, two per sample (Shazeer et al., 2017)."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.enter, self.router = nn.Linear(64, 48), nn.Linear(48, experts)
        self.experts = nn.ModuleList(perceptron(48, 48, 48) for _ in range(experts))
        self.head = nn.Linear(48, 10)

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.enter(x).relu()
        share = self.router(hidden).softmax(1)
        top = share.topk(2, 1)
        gate = torch.zeros_like(share).scatter(1, top.indices, top.values / top.values.sum(1, keepdim=True))
        mixed = torch.stack([expert(hidden) for expert in self.experts], 1)
        return self.head(hidden + (gate[..., None] * mixed).sum(1)), share


@family("left out", sgd=0.2, adam=3e-3)
def moe() -> Task:
    """A mixture of experts, on digits, with a loss that spreads the load."""

    def criterion(out: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        return cross_entropy(out[0], batch[1]) + 0.05 * len(out[1][0]) * out[1].mean(0).square().sum()

    def score(net: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy(net(batch[0])[0], batch[1])

    tags = frozenset({"router", "float inputs"})
    return Task(Experts(), *data.table("digits"), criterion, score=score, tags=tags)


@family("tuning", sgd=0.02, adam=1e-2)
def lora() -> Task:
    """Adapters on a frozen network that knows other digits: the classes are renamed."""
    train, check = data.table("digits")
    body = pretrained(perceptron(64, 48, 48, 10), train[:60])
    net = nn.Sequential(*(LoRA(m) if isinstance(m, nn.Linear) else m for m in body))
    train, check = ([(x, (y + 3) % 10) for x, y in part] for part in (train, check))
    frozen(net, "0.base", "2.base", "4.base")
    return Task(net, train, check, entropy, tags=CLASSES | {"adapters"}, blind=2.3)
