# SPDX-License-Identifier: Apache-2.0
"""What a loss function was called with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_gradwatch.diagnosis import ForwardProbe, SuppressErrors, scales_of
from lightning_gradwatch.diagnosis.losses import read_loss

CLASSES = torch.arange(8) % 4


def read(function, answer, target, **kwargs):
    out = getattr(functional, function)(answer, target, **kwargs)
    return {name: float(value) for name, value in read_loss(function, (answer, target), kwargs, out).items()}


def test_logits_of_0_are_a_blind_guess():
    assert read("cross_entropy", torch.zeros(8, 4), CLASSES)["excess"] == pytest.approx(1.0)
    assert read("cross_entropy", 30 * torch.randn(8, 4), CLASSES)["excess"] > 3


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_reduction_makes_no_difference(reduction):
    assert read("cross_entropy", torch.zeros(8, 4), CLASSES, reduction=reduction)["value"] == pytest.approx(math.log(4))


def test_probabilities_are_told_from_logits():
    logits = torch.randn(8, 4)
    assert read("cross_entropy", logits, CLASSES)["softmaxed"] == 0
    assert read("cross_entropy", logits.softmax(1), CLASSES)["softmaxed"] == 1


def test_answers_that_are_all_the_same():
    same = torch.randn(1, 4).expand(8, 4)
    assert read("cross_entropy", same, CLASSES)["alike"] < 1e-6
    assert read("cross_entropy", torch.randn(8, 4), CLASSES)["alike"] > 0.1
    assert math.isnan(read("cross_entropy", torch.zeros(8, 4), CLASSES)["alike"])  # a last layer of 0


def test_squared_errors_are_held_against_the_spread_of_the_targets():
    target = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    found = read("mse_loss", torch.zeros(4, 1), target)
    assert found["excess"] == pytest.approx(1 / 3)
    assert (found["target"], found["answer"], found["outer"]) == (1.0, 0.0, 0.0)
    assert read("mse_loss", torch.zeros(4, 1), 100 + target)["excess"] > 100
    assert math.isnan(read("mse_loss", torch.zeros(4, 1), torch.ones(4, 1))["excess"])  # nobody needs to guess


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_shapes_that_broadcast_to_more_are_seen_and_those_to_as_much_are_not():
    assert read("mse_loss", torch.randn(4, 1), torch.randn(4))["outer"] == 1
    assert read("mse_loss", torch.randn(4, 1), torch.randn(1))["outer"] == 0


def test_weighted_classes_are_not_held_against_a_blind_guess():
    found = read("cross_entropy", torch.zeros(8, 4), CLASSES, weight=torch.full((4,), 50.0))
    assert "excess" not in found


def test_what_is_not_understood_says_nothing():
    assert read_loss("mse_loss", (1.0, 2.0), {}, 3.0) == {}


def test_the_probe_reads_the_call_and_what_goes_into_the_first_layer():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4))
    probe = ForwardProbe(net, SuppressErrors())
    probe.attach()
    functional.cross_entropy(net(1e4 + 1e3 * torch.randn(8, 3)), CLASSES)
    probe.detach()
    numbers = probe.take()
    found = scales_of(numbers, probe.fed)
    assert probe.guard.error is None
    assert 0.5 < float(found["excess"]) < 3
    assert float(found["input"]) == pytest.approx(1.0, abs=0.1)  # behind the normalisation
    assert probe.called(numbers) == ("0", "1")
