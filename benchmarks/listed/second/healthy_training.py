# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - an optimizer's options
"""Healthy runs: more optimizers, schedules, starts and interventions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, healthy
from benchmarks.listed.special import Phases
from benchmarks.listed.tasks import Run, Task, adam, digits, factor, fit, sgd


class Signs(Optimizer):
    """Sign of the averaged gradient, times the rate (Lion without its second average)."""

    def __init__(self, params: Any, lr: float = 1e-3, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                    mean.lerp_(p.grad, 1 - group["beta"])
                    p.sub_(mean.sign(), alpha=group["lr"])
        return loss


def by_depth(net: nn.Module) -> Optimizer:
    """AdamW with a rate that falls by 0.3 per layer towards the input."""
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    groups = [{"params": m.parameters(), "lr": 5e-3 * 0.3 ** (len(layers) - 1 - i)} for i, m in enumerate(layers)]
    return torch.optim.AdamW(groups, weight_decay=0.1)


def shrink_and_perturb(task: Task) -> None:
    """A warm start that forgets a part (Ash and Adams, 2020)."""
    with torch.no_grad():
        for p in task.parameters():
            p.mul_(0.4).add_(0.02 * torch.randn_like(p))


def begin_again(task: Task) -> None:
    """All layers are drawn anew."""
    for layer in task.net.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def ragged() -> Run:
    """Batches of one to 64 samples."""
    batches = [
        (x[:n], y[:n]) for (x, y), n in zip(data.digits(300), torch.randint(1, 65, (300,)).tolist(), strict=True)
    ]
    return fit(nets.small(), batches, adam())


def easy_first() -> Run:
    """The noise on the input grows over the run."""
    batches = [(x + 2.0 * i / 300 * torch.randn_like(x), y) for i, (x, y) in enumerate(data.digits(300))]
    return fit(nets.small(), batches, adam())


def silent_half() -> nn.Module:
    """Half of the first layer's units never answer."""
    net = nets.mlp(64, 128, 64, 10)
    with torch.no_grad():
        net.get_parameter("0.bias")[:64] = -30.0
    return net


def head(factor_: float) -> nn.Module:
    """A last layer that starts nearly or exactly at zero."""
    net = nets.mlp(64, 64, 64, 10)
    with torch.no_grad():
        net.get_parameter("4.weight").mul_(factor_)
        net.get_parameter("4.bias").zero_()
    return net


def half_of_the_classes_later() -> Run:
    """The digits from 5 to 9 appear at batch 100."""
    x, y = data.standard("digits")
    low = y < 5
    return fit(nets.small(), data.batches((x[low], y[low]), 100) + data.digits(150), adam(3e-3))


CASES = (
    healthy(
        "rate_by_depth", TUNING, "the first layers hardly move", lambda: digits(nets.mlp(64, 64, 64, 64, 10), by_depth)
    ),
    healthy(
        "warm_up_150",
        REPORTING,
        "half of the run is warm-up",
        lambda: digits(optimizer=adam(3e-3), steps=300, schedule=factor(lambda i: min(1.0, i / 150))),
    ),
    healthy(
        "rate_0_for_30_steps",
        TUNING,
        "no update at all at first",
        lambda: digits(optimizer=adam(3e-3), schedule=factor(lambda i: float(i >= 30))),
    ),
    healthy(
        "sign_descent",
        REPORTING,
        "updates do not depend on the gradient's size",
        lambda: digits(optimizer=lambda net: Signs(net.parameters())),
    ),
    healthy(
        "adadelta",
        TUNING,
        "updates start tiny",
        lambda: digits(optimizer=lambda net: torch.optim.Adadelta(net.parameters())),
    ),
    healthy(
        "shrink_and_perturb_at_120",
        REPORTING,
        "deliberate forgetting",
        lambda: Run(Phases(nets.small(), 120, shrink_and_perturb), data.digits(250), {}),
    ),
    healthy(
        "begin_again_at_120",
        TUNING,
        "the loss jumps up to where it began",
        lambda: Run(Phases(nets.small(), 120, begin_again), data.digits(250), {}),
        since=120,
    ),
    healthy("ragged_batches", REPORTING, "the noise changes at each step", ragged),
    healthy("noise_grows", TUNING, "a curriculum", easy_first),
    healthy("half_of_a_layer_silent", REPORTING, "the other half suffices", lambda: digits(silent_half())),
    healthy("head_x1e-4", TUNING, "the body's gradient starts tiny", lambda: digits(head(1e-4))),
    healthy("zero_head", REPORTING, "the body has no gradient at first", lambda: digits(head(0.0), sgd(0.2))),
    healthy("five_more_classes_at_100", TUNING, "the data set changes", half_of_the_classes_later, since=100),
    healthy("batch_1_adam", REPORTING, "pure noise", lambda: digits(optimizer=adam(5e-4), steps=500, size=1)),
)
