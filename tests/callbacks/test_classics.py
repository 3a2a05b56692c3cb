# SPDX-License-Identifier: Apache-2.0
"""What the classic texts on unstable gradients ask for, each shown by a run."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from lightning_gradwatch import ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector

DEPTH = 6


def stack(kit, layers, loss, lr=0.01):
    """A module `net` of these layers that is fed ones; `loss` of its output."""

    class Stack(kit.Base):
        def __init__(self):
            super().__init__(lambda p: torch.optim.SGD(p, lr=lr))
            torch.manual_seed(3)
            self.net = nn.Sequential(*layers())

        def training_step(self, batch, batch_idx):
            return loss(self.net, batch)

    return Stack()


def chain():
    """One-neuron sigmoid layers with w = 100 and b = -100 a, so that every z is 0 and every layer's factor 100 / 4."""
    for i in range(DEPTH):
        linear = nn.Linear(1, 1)
        nn.init.constant_(linear.weight, 100.0)
        nn.init.constant_(linear.bias, -100.0 * (1.0 if i == 0 else 0.5))
        yield linear
        yield nn.Sigmoid()


def from_ones(net, batch):
    return net(torch.ones(1, 1)).sum()


def test_the_chain_of_neurons_with_w_100_explodes_by_25_per_layer(kit):
    log, detector = kit.Memory(), ExplosionDetector()
    kit.fit(stack(kit, chain, from_ones, lr=1e-12), [GradientNormLogger(), detector], steps=1, logger=log)
    norms = [log.points[f"grad_norm/net.{2 * i}"][0] for i in range(DEPTH)]
    # The input of the first is 1 and of the others 0.5, so weight and bias together weigh sqrt(2) and sqrt(1.25).
    last = 0.25 * 1.25**0.5
    assert norms[1:] == pytest.approx([last * 25.0**k for k in range(DEPTH - 2, -1, -1)], rel=1e-5)
    assert norms[0] == pytest.approx(0.25 * 2**0.5 * 25.0 ** (DEPTH - 1), rel=1e-5)
    event = next(event for event in detector.events if event.kind == "explosion")
    assert event.message.startswith("gradient grows x26 per layer from net.10 (0.28) to net.0 (3.5e6)")
    assert event.layers[0] == "net.0"


def deep_sigmoid():
    for width in (8, *[16] * 11):
        yield nn.Linear(width, 16)
        yield nn.Sigmoid()
    yield nn.Linear(16, 2)


def classify(net, batch):
    x, y = batch
    return nn.functional.cross_entropy(net(torch.cat([x, x[:, :2]], 1)), (y[:, 0] > 0).long())


def test_a_deep_sigmoid_net_vanishes_and_is_diagnosed_by_name_and_number(kit):
    log, detector = kit.Memory(), VanishingDetector(window=20)
    kit.fit(stack(kit, deep_sigmoid, classify, lr=0.3), [GradientNormLogger(), detector], steps=100, logger=log)
    norms = [log.points[f"grad_norm/net.{2 * i}"][99] for i in range(13)]
    assert all(a < b / 4 for a, b in pairwise(norms[:11]))  # at most the largest derivative
    (event,) = [event for event in detector.events if event.kind == "vanishing" and event.severity == "alarm"]
    assert event.layers[0] == "net.0"
    first = event.message.splitlines()[0]
    measured = (log.points["grad_norm/net.0"][event.log_step] / log.points["grad_norm/net.24"][event.log_step]) ** (
        1 / 12
    )
    assert first.startswith(f"gradient shrinks x{measured:.2g} per layer from net.24 (")
    assert measured < 0.25
    assert "sigmoid's is at most 1/4" in event.cause


def to_a_constant(net, batch):
    return (net(torch.ones(1, 8)) - 3.0).square().mean()


def test_the_same_profile_in_a_model_that_has_converged_is_not_vanishing(kit):
    # The bias of the last layer alone brings the loss to zero: there is nothing left to learn for the others.
    log, detector = kit.Memory(), VanishingDetector(window=20)
    kit.fit(stack(kit, deep_sigmoid, to_a_constant, lr=0.02), [GradientNormLogger(), detector], steps=100, logger=log)
    first, last = (log.points[f"grad_norm/net.{i}"][99] for i in (0, 24))
    assert 0 < first < 1e-6 * last < 1e-6
    assert [event.kind for event in detector.events if event.kind != "dead"] == []


def test_layers_that_learn_at_different_speeds_are_seen(kit):
    log = kit.Memory()
    kit.fit(stack(kit, deep_sigmoid, classify), [GradientNormLogger()], steps=1, logger=log)
    assert log.points["grad_depth/factor"][0] < 0.25
    assert log.points["grad_depth/speed_spread"][0] > 1e4


def test_the_largest_absolute_gradient_of_each_epoch(kit):
    log = kit.Memory()
    kit.pull([2.0, 8.0, 4.0], [GradientNormLogger()], steps=6, logger=log)
    assert log.points["grad_max_epoch/total"] == {2: 4.0, 5: 4.0}


def test_the_rate_falls_by_0_98_per_epoch_beside_another_scheduler(kit):
    class Scheduled(kit.Lever):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    log = kit.Memory()
    kit.fit(Scheduled(), [LRDecay(gamma=0.98, on=())], steps=6, loader=kit.column([1.0] * 2), logger=log)
    rates = list(log.points["grad_lr/group0"].values())
    assert rates == pytest.approx([0.125 * (0.5 * 0.98) ** (i // 2) for i in range(6)])
