# SPDX-License-Identifier: Apache-2.0
"""Training loops of the second batch that are not one loss of one output."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, mse_loss
from typing_extensions import override

from benchmarks.listed import nets, parts
from benchmarks.listed.tasks import Task, adam, sgd


class Proximal(Task):
    """PPO on a bandit whose right arm is the class of a digit: four steps on each batch, the ratio clipped."""

    def __init__(self) -> None:
        super().__init__(nets.small(), cross_entropy, adam(3e-3))
        self.automatic_optimization, self.wrong = False, 1.0

    @override
    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        with torch.no_grad():
            old: Any = Categorical(logits=self.net(x))
            action = old.sample()
            reward = (action == y).float()
        self.wrong = 0.9 * self.wrong + 0.1 * float(1 - reward.mean())
        advantage = (reward - reward.mean()) / (reward.std() + 1e-8)
        optimizer: Any = self.optimizers()
        for _ in range(4):
            now: Any = Categorical(logits=self.net(x))
            ratio = (now.log_prob(action) - old.log_prob(action)).exp()
            gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            optimizer.zero_grad()
            self.manual_backward(self.note(-gain - 0.01 * now.entropy().mean(), self.wrong))
            optimizer.step()


class Bootstrapped(Task):
    """BYOL: the prediction of what an averaged copy makes of another view (Grill et al., 2020)."""

    def __init__(self) -> None:
        super().__init__(
            nn.ModuleDict({"online": nets.mlp(64, 64, 32), "guess": nets.mlp(32, 32, 32)}), mse_loss, adam()
        )
        self.target = parts.frozen(deepcopy(self.net.get_submodule("online")))

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        one, two = (batch[0] + 0.3 * torch.randn_like(batch[0]) for _ in range(2))
        guess = self.net.get_submodule("guess")(self.net.get_submodule("online")(one))
        return self.note((1 - cosine_similarity(guess, self.target(two))).mean())

    @override
    def on_train_batch_end(self, *_: Any) -> None:
        with torch.no_grad():
            online = self.net.get_submodule("online")
            for slow, fast in zip(self.target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, 0.02)


class Distilled(Task):
    """A small network learns from a larger one, at temperature 4."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__(nets.mlp(64, 16, 10), cross_entropy, adam(3e-3))
        self.teacher = parts.frozen(parts.pretrained(nets.mlp(64, 128, 10), batches))

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, _ = batch
        mine, theirs = (net(x).div(4).log_softmax(1) for net in (self.net, self.teacher))
        return self.note(16 * kl_div(mine, theirs, log_target=True, reduction="batchmean"))


class Penalised(Task):
    """A penalty on the gradient with respect to the input: the backward pass is itself differentiated."""

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        out = self.net(x.requires_grad_())
        loss = self.loss(out, y)
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        return self.note(loss + 10.0 * (slope.norm(dim=1) * len(x)).square().mean() * 0.01, loss)


class Streaming(Task):
    """Truncated backpropagation through time: the state goes on to the next batch, its gradient does not."""

    state: Any = None

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        out, state = self.net.get_submodule("rnn")(self.net.get_submodule("embed")(x), self.state)
        self.state = tuple(s.detach() for s in state)
        return self.note(self.loss(self.net.get_submodule("head")(out).transpose(1, 2), y))


class ByHand(Task):
    """Manual optimization whose order of calls is `order`; `scale` multiplies the loss."""

    def __init__(self, net: nn.Module, order: Callable[[Any, Callable[[], None]], None], lr: float) -> None:
        super().__init__(net, cross_entropy, sgd(lr))
        self.automatic_optimization, self.order = False, order

    @override
    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        loss = self.note(self.loss(self.net(x), y))
        self.order(self.optimizers(), lambda: self.manual_backward(loss))


class Uncertain(Task):
    """Two tasks weighted by learnt uncertainties, whose sum falls below zero (Kendall et al., 2018)."""

    def __init__(self) -> None:
        net = nn.ModuleDict({"body": nets.mlp(64, 48, 48), "sort": nn.Linear(48, 10), "copy": nn.Linear(48, 64)})
        super().__init__(net, cross_entropy, adam(3e-3, of=lambda _: self.parameters()))
        self.spread = nn.Parameter(torch.zeros(2))

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        hidden = self.net.get_submodule("body")(x).relu()
        losses = [cross_entropy(self.net.get_submodule("sort")(hidden), y)]
        losses += [mse_loss(self.net.get_submodule("copy")(hidden), x)]
        return self.note((torch.stack(losses) * (-self.spread).exp() + self.spread).sum())


class Rewarded(Task):
    """Policy gradient with rewards far from order one and no baseline; judged by the share of wrong arms."""

    def __init__(self, scale: float) -> None:
        super().__init__(nets.small(), cross_entropy, sgd(0.1))
        self.wrong, self.scale = 0.9, scale

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        policy: Any = Categorical(logits=self.net(x), validate_args=False)
        probabilities = policy.probs.nan_to_num(0.1).clamp(min=1e-9)
        action = torch.multinomial(probabilities, 1)[:, 0]
        reward = self.scale * (action == y).float()
        self.wrong = 0.9 * self.wrong + 0.1 * float((action != y).float().mean())
        return self.note(-(policy.log_prob(action) * reward).mean(), self.wrong)
