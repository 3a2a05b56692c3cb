# SPDX-License-Identifier: Apache-2.0
"""A rate that jumps is held until the momentum of before is spent."""

import math

import numpy as np
import pytest

from lightning_gradwatch.lr.momentum_hold import MomentumHold

WEIGHTS = np.array([6.0, 8.0])  # a joint norm of 10


def sgd(lr, momentum=0.9):
    return [{"lr": lr, "momentum": momentum, "dampening": 0.0}]


def trained(norm=1.0, lr=0.01, momentum=0.9, steps=400):
    """One that has seen steady norms: the momentum is norm / (1 - momentum)."""
    held = MomentumHold(0.3)
    for _ in range(steps):
        assert held.scales(WEIGHTS, sgd(lr, momentum), 1.0) is None
        held.learn(sgd(lr, momentum), norm)
    return held


def held_steps(held, lr, norm=0.0, momentum=0.9, scale=1.0):
    """The multipliers from the jump on, as long as there are any."""
    found = []
    while (scales := held.scales(WEIGHTS, sgd(lr, momentum), scale)) is not None:
        found += scales
        held.learn(sgd(lr, momentum), norm)
        assert len(found) < 1000
    return found


def test_a_jump_is_held_until_the_old_momentum_is_spent():
    found = held_steps(trained(), 10.0)  # 10 * 10 / 10 = 10 times the weights
    assert found == pytest.approx([0.001] * math.ceil(math.log(10 / (0.3 * 0.1)) / -math.log(0.9)))
    assert 10.0 * 0.9 ** len(found) / (1 - 0.9) <= 0.3  # all that is left of it, at the full rate


@pytest.mark.parametrize("lr", [0.099, 0.29])
def test_what_the_weights_can_bear_is_left_alone(lr):
    assert held_steps(trained(), lr) == []


def test_a_ramp_is_no_jump():
    held, lr = trained(), 0.01
    for _ in range(40):
        lr *= 9.9
        assert held.scales(WEIGHTS, sgd(lr), 1.0) is None
        held.learn(sgd(lr), 1.0)


def test_without_momentum_nothing_is_held():
    assert held_steps(trained(momentum=0.0), 1e9, momentum=0.0) == []


def test_it_never_holds_for_ever_though_the_momentum_stays():
    assert len(held_steps(trained(), 10.0, norm=1.0)) == 56


def test_a_rate_that_comes_back_by_itself_is_not_held_any_more():
    held = trained()
    assert held.scales(WEIGHTS, sgd(10.0), 1.0) is not None
    assert held.scales(WEIGHTS, sgd(0.01), 1.0) is None
    assert held.scales(WEIGHTS, sgd(0.011), 1.0) is None


def test_the_back_off_counts():
    assert held_steps(trained(), 0.5, scale=0.5) == []  # the back-off made it 0.25
    assert held_steps(trained(), 0.5) != []


def test_a_norm_that_is_none_changes_nothing():
    held = trained()
    before = held.state_dict()
    held.learn(sgd(0.01), math.nan)
    assert held.state_dict() == before


def test_a_resumed_one_goes_on_exactly():
    one, other = trained(), MomentumHold(0.3)
    one.scales(WEIGHTS, sgd(10.0), 1.0)
    other.load_state_dict(one.state_dict())
    assert other.ratio == one.ratio > 0.3
    assert held_steps(other, 10.0) == held_steps(one, 10.0)
