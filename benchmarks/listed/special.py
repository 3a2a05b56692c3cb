# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - batches and Lightning's optimizers
"""Training that is not one forward, one backward, one step: manual optimization, several losses, no labels."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.nn.utils import get_total_norm
from typing_extensions import override

from benchmarks.listed import nets, parts
from benchmarks.listed.tasks import Task, adam, sgd


class Adversarial(Task):
    """A GAN with two optimizers on points around (2, 1); judged by how far off the generated ones are on average."""

    def __init__(self) -> None:
        super().__init__(nets.mlp(4, 32, 32, 2), binary_cross_entropy_with_logits, adam(betas=(0.5, 0.9)))
        self.critic = nets.mlp(2, 32, 32, 1, act=lambda: nn.LeakyReLU(0.2))
        self.automatic_optimization, self.off_by = False, 5**0.5

    @override
    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        generator, critic = optimizers
        real, noise = batch
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        judged = self.loss(self.critic(real), ones) + self.loss(self.critic(self.net(noise).detach()), zeros)
        self.take_step(critic, self.note(judged, self.off_by))
        fake = self.net(noise)
        self.take_step(generator, self.loss(self.critic(fake), ones))
        self.off_by = float((fake.detach().mean(0) - real.mean(0)).norm())

    def take_step(self, optimizer: Any, loss: Tensor) -> None:
        """One step of one optimizer; the other's parameters keep stale gradients, as in most people's code."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    @override
    def configure_optimizers(self) -> Any:
        return [self.optimizer(self.net), self.optimizer(self.critic)]


class SharpnessAware(Task):
    """SAM: one backward pass uphill, a second one for the step (Foret et al., 2021)."""

    def __init__(self, net: nn.Module, rho: float = 0.05) -> None:
        super().__init__(net, cross_entropy, sgd(0.1))
        self.automatic_optimization, self.rho = False, rho

    @override
    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        optimizer: Any = self.optimizers()
        self.manual_backward(self.note(self.loss(self.net(x), y)))
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.net.parameters()]
        length = self.rho / float(get_total_norm(grads))
        self.climb(grads, length)
        optimizer.zero_grad()
        self.manual_backward(self.loss(self.net(x), y))
        self.climb(grads, -length)
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def climb(self, grads: list[Tensor], length: float) -> None:
        """Moves the weights along `grads`."""
        for p, grad in zip(self.net.parameters(), grads, strict=True):
            p.add_(grad, alpha=length)


class MeanTeacher(Task):
    """A student that follows the labels and an averaged copy of itself, which has no gradient."""

    def __init__(self) -> None:
        super().__init__(nets.small(), cross_entropy, adam())
        self.teacher = parts.frozen(deepcopy(self.net))

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        out = self.net(x + 0.1 * torch.randn_like(x))
        hard = self.loss(out, y)
        return self.note(hard + mse_loss(out.softmax(1), self.teacher(x).softmax(1)), hard.detach())

    @override
    def on_train_batch_end(self, *_: Any) -> None:
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(fast, 0.05)


class Reinforce(Task):
    """Policy gradient on a bandit whose right arm is the class of the digit; judged by the share of wrong arms."""

    def __init__(self) -> None:
        super().__init__(nets.small(), cross_entropy, adam(5e-3))
        self.wrong = 1.0

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        policy: Any = Categorical(logits=self.net(x))  # torch's distributions are not typed
        action = policy.sample()
        reward = (action == y).float()
        self.wrong = 0.9 * self.wrong + 0.1 * float(1 - reward.mean())
        advantage = reward - reward.mean()
        return self.note(-(policy.log_prob(action) * advantage).mean(), self.wrong)


class Alternating(Task):
    """Two heads that take turns; and now and then there is nothing to learn from."""

    def __init__(self) -> None:
        heads = nn.ModuleList(nn.Linear(32, 10) for _ in range(2))
        super().__init__(nn.ModuleDict({"body": nets.mlp(64, 64, 32), "heads": heads}), cross_entropy, adam())

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        x, y = batch
        if batch_idx % 17 == 16:
            return None
        head = self.net.get_submodule(f"heads.{batch_idx % 2}")
        return self.note(self.loss(head(self.net.get_submodule("body")(x).relu()), y))


class Phases(Task):
    """`act` is called with the task, once, before batch number `at`."""

    def __init__(self, net: nn.Module, at: int, act: Callable[[Task], object]) -> None:
        super().__init__(net, cross_entropy, adam())
        self.at, self.act = at, act

    @override
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.at:
            self.act(self)
