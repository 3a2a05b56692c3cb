# SPDX-License-Identifier: Apache-2.0
"""The true relative update against the weights themselves, and the bound on it."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from lightning_gradwatch import measure
from lightning_gradwatch.measurement.meter import Meter
from lightning_gradwatch.measurement.updates import MOST_BYTES, UpdateBound, UpdateProbe

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
}


def net(*sizes):
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(sizes)])


def backward(module):
    module.zero_grad()
    module(torch.ones(2, module[0].in_features)).square().mean().backward()


@torch.no_grad()
def moved(probe, optimizer):
    optimizer.step()
    return [values.tolist() for values in probe.measure()]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_update_is_what_the_weights_really_did(make):
    module = net(3, 4, 2)
    optimizer, probe = make(module.parameters()), UpdateProbe(Meter(module.named_parameters()))
    for _ in range(3):
        backward(module)
        before = [p.detach().clone() for p in module.parameters()]
        with torch.no_grad():
            probe.arm()
        change, weights = moved(probe, optimizer)
        after = list(module.parameters())
        assert change == pytest.approx([(a - b).norm().item() for a, b in zip(after, before, strict=True)], rel=1e-5)
        assert weights == pytest.approx([b.norm().item() for b in before], rel=1e-5)


def test_norms_of_the_weights_that_are_known_are_not_measured_again():
    module = net(3, 4, 2)
    optimizer, meter = OPTIMIZERS["sgd"](module.parameters()), Meter(module.named_parameters())
    probe = UpdateProbe(meter)
    backward(module)
    with torch.no_grad():
        known = meter.weight_norms()
        probe.arm([1, 3])
        optimizer.step()
        measured, given = probe.measure(), probe.measure(known)
    assert torch.equal(measured[0], given[0])
    assert torch.equal(measured[1], given[1])


def test_only_what_fits_is_copied_and_all_have_their_turn():
    probe = UpdateProbe(Meter(net(4, 4, 4).named_parameters()))  # 64, 16, 64, 16 bytes
    taken = []
    for _ in range(4):
        probe.arm(most_bytes=90)
        taken.append(probe.indices)
    assert taken == [[0, 1], [2, 3], [0, 1], [2, 3]]


def test_no_more_than_so_many_are_copied():
    probe = UpdateProbe(Meter(net(4, 4, 4).named_parameters()))
    taken = []
    for _ in range(3):
        probe.arm(most=3)
        taken.append(probe.indices)
    assert taken == [[0, 1, 2], [3, 0, 1], [2, 3, 0]]


def test_a_parameter_above_the_bound_of_one_look_is_taken_alone():
    probe = UpdateProbe(Meter(net(4, 4, 4).named_parameters()))
    probe.arm(most_bytes=10)
    assert probe.indices == [0]


def test_a_parameter_that_is_far_too_large_is_passed_by():
    huge = nn.Parameter(torch.empty(MOST_BYTES // 4 + 1, device="meta"))
    probe = UpdateProbe(Meter([("huge", huge), ("small", nn.Parameter(torch.ones(2)))]))
    probe.arm()
    assert probe.indices == []
    probe.arm()
    assert probe.indices == [1]


def test_named_parameters_leave_the_turn_alone():
    probe = UpdateProbe(Meter(net(4, 4, 4).named_parameters()))
    probe.arm([2])
    assert (probe.indices, probe.next) == ([2], 0)
    probe.clear()
    assert probe.indices == []


def bound(module, optimizer, groups=None):
    members = [np.arange(len(list(module.parameters())))] if groups is None else groups
    return UpdateBound().of(optimizer.param_groups, members, measure(module))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_no_matrix_moves_further_than_the_bound(name):
    module = net(6, 8)
    optimizer, probe = OPTIMIZERS[name](module.parameters()), UpdateProbe(Meter(module.named_parameters()))
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    for _ in range(30):
        module.zero_grad()
        module(torch.ones(2, 6)).sum().backward()  # the same gradient each time
        most = bound(module, optimizer)
        with torch.no_grad():
            probe.arm()
        change, weights = moved(probe, optimizer)
        assert change[0] / weights[0] <= most[0] * 1.001


def test_the_bound_follows_the_rate_of_each_group():
    module = net(4, 4, 4)
    first, *rest = module.parameters()
    groups = [{"params": [first], "lr": 1.0}, {"params": rest, "lr": 0.1}]
    optimizer = torch.optim.SGD(groups)
    backward(module)
    low, high = (
        bound(module, optimizer, [np.array([0]), np.array([1, 2, 3])]) for optimizer.param_groups[0]["lr"] in (1.0, 2.0)
    )
    assert high[0] == 2 * low[0]
    assert high[2] == low[2]


def test_biases_and_zero_weights_have_no_bound():
    module = net(4, 4)
    nn.init.zeros_(module[0].weight)
    backward(module)
    assert bound(module, torch.optim.Adam(module.parameters())).tolist() == [0.0, 0.0]


def test_an_optimizer_of_another_kind_has_none():
    module = net(4, 4)
    backward(module)
    assert bound(module, torch.optim.RMSprop(module.parameters())) is None
