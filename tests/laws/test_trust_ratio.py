# SPDX-License-Identifier: Apache-2.0
"""The bounds on relative updates: numbers in, factors out."""

import math

import numpy as np
import pytest
import torch

from lightning_gradwatch import AdaptiveClipper, LRDecay
from lightning_gradwatch.laws import TrustRatioClip
from lightning_gradwatch.lr.adam_limit import AdamLimit
from lightning_gradwatch.lr.known import sgd_reach
from lightning_gradwatch.snapshot import ParameterInfo

# Two layers: weights of norm 8 and 6 with biases of 0, so that each layer's norm is that of its matrix.
LAYOUT = ParameterInfo(("a.weight", "a.bias", "b.weight", "b.bias"), ((4, 4), (4,), (4, 4), (4,)))
WEIGHTS = np.array([8.0, 0.0, 6.0, 0.0])
ALL = [np.arange(4)]
SGD = [{"lr": 0.5, "momentum": 0.0, "dampening": 0.0}]
ADAM = [{"lr": 0.1, "betas": (0.9, 0.999)}]


def limit(members=None, most=0.3, layout=LAYOUT, groups=ALL):
    bound = TrustRatioClip(most)
    bound.meet(layout, groups, members)
    return bound


def factors(bound, norms, settings=SGD, weights=WEIGHTS, scale=1.0):
    reaches = [scale * sgd_reach(group) for group in settings]
    found = bound.factors(np.array(norms, dtype=np.float64), weights, reaches)
    return [1.0] * len(norms) if found is None else found.tolist()


def test_up_to_the_limit_nothing_is_touched():
    assert limit().factors(np.array([4.7, 0.0, 3.5, 0.0]), WEIGHTS, [0.5]) is None  # 0.5 * 4.8 / 8 = 0.3


def test_the_limit_that_nobody_gives_is_three_tenths_of_the_weights():
    for most in (AdaptiveClipper().max_update_ratio, LRDecay().max_update_ratio):
        bound = limit(most=most)
        assert factors(bound, [4.7, 0, 1.0, 0]) == [1.0] * 4
        assert factors(bound, [9.6, 0, 1.0, 0]) == pytest.approx([0.25, 0.25, 1, 1])  # a ratio of 0.6: 0.15 is left


def test_beyond_it_the_layer_alone_is_taken_back_the_further_the_further_it_is():
    for ratio, left in ((0.6, 0.15), (0.9, 0.1), (1.0, 0.001), (4.5, 0.001), (1e9, 0.001)):
        norm = ratio * 8 / 0.5
        assert factors(limit(), [norm, 0.0, 1.0, 0.1]) == pytest.approx([left / ratio, left / ratio, 1.0, 1.0])


def test_it_is_continuous_at_the_limit():
    assert factors(limit(), [4.8 * (1 + 1e-9), 0, 0, 0])[0] == pytest.approx(1.0, abs=1e-6)


def test_a_bias_is_judged_by_the_weights_of_its_layer():
    assert factors(limit(), [0.0, 9.6, 0.1, 0.1]) == pytest.approx([0.25, 0.25, 1.0, 1.0])
    assert factors(limit(), [7.68, 5.76, 0.1, 0.1]) == pytest.approx([0.25, 0.25, 1.0, 1.0])  # 9.6 together


def test_momentum_counts_with_all_that_it_will_do():
    settings = [{**SGD[0], "momentum": 0.9}]
    assert factors(limit(), [0.47, 0, 0, 0], settings) == [1.0] * 4
    assert factors(limit(), [0.96, 0, 0, 0], settings)[0] == pytest.approx(0.25)


def test_dampening_keeps_its_share_of_each_gradient_out_of_the_momentum():
    settings = [{**SGD[0], "momentum": 0.9, "dampening": 0.9}]
    assert factors(limit(), [4.7, 0, 0, 0], settings) == [1.0] * 4
    assert factors(limit(), [9.6, 0, 0, 0], settings)[0] == pytest.approx(0.25)
    assert factors(limit(), [9.6, 0, 0, 0], [{**SGD[0], "dampening": 0.9}])[0] == pytest.approx(0.25)  # not without


def test_each_group_has_its_own_rate():
    settings = [{**SGD[0], "lr": 5.0}, *SGD]
    bound = limit(groups=[np.array([0, 1]), np.array([2, 3])])
    assert factors(bound, [0.96, 0, 0.96, 0], settings) == pytest.approx([0.25, 0.25, 1, 1])


def test_what_the_rate_is_multiplied_by_counts():
    assert factors(limit(), [9.6, 0, 0, 0], scale=0.5) == [1.0] * 4


def test_weights_near_zero_count_as_of_usual_size():
    weights = np.zeros(4)  # sizes of 0.5 * sqrt(4 rows)
    assert factors(limit(), [0.6, 0, 0.6, 0], weights=weights) == [1.0] * 4
    assert factors(limit(), [1.2, 0, 0, 0], weights=weights)[0] == pytest.approx(0.25)


def test_a_layer_without_a_matrix_counts_its_entries():
    gate = ParameterInfo(("gate", "norm.weight"), ((), (9,)))
    bound = limit(layout=gate, groups=[np.arange(2)])
    assert factors(bound, [0.29, 0.89], weights=np.zeros(2)) == [1.0, 1.0]
    assert factors(bound, [0.6, 1.8], weights=np.zeros(2)) == pytest.approx([0.25, 0.25])


def test_only_the_chosen_parameters_are_bounded():
    assert factors(limit(np.array([2, 3])), [1e6, 0, 9.0, 0]) == pytest.approx([1.0, 1.0, 0.16, 0.16])


def lefts(bound, ratios, weights=WEIGHTS):
    """What is left of the updates of the first layer."""
    return [factors(bound, [16 * ratio, 0, 1.0, 0], weights=weights)[0] * ratio for ratio in ratios]


def test_a_step_that_the_weights_can_hardly_bear_is_not_remembered():
    bound = limit()
    assert lefts(bound, [0.9, 0.2]) == pytest.approx([0.1, 0.2])
    assert bound.state_dict() == {}


def test_weights_that_are_smaller_than_ordinary_ones_may_be_replaced():
    bound = limit()
    small = np.array([1.0, 0.0, 6.0, 0.0])  # ordinary are sqrt(2 * 4 rows)
    assert factors(bound, [2 * 2.8, 0, 1.0, 0], weights=small)[0] == pytest.approx((0.3 / 2.8) ** 2)
    assert bound.state_dict() == {}
    assert factors(bound, [2 * 2.9, 0, 1.0, 0], weights=small)[0] == pytest.approx(0.001 / 2.9)
    assert list(bound.state_dict()) == ["a"]


def test_weights_of_less_than_the_least_size_come_somewhere_too():
    bound = limit()
    start, now = (
        np.array([0.30, 0.0, 6.0, 0.0]),
        np.array([0.31, 0.0, 6.0, 0.0]),
    )  # the least size is 0.5 * sqrt(4 rows)
    assert factors(bound, [2 * 4.5, 0, 1.0, 0], weights=start)[0] == pytest.approx(0.001 / 4.5)
    left = factors(bound, [2 * 4.5, 0, 1.0, 0], weights=now)[0]
    assert left == pytest.approx((0.31**2 - 0.30**2) ** 0.5 / (4.5 * (1 + 0.998**2) ** 0.5))


def test_after_one_unbearable_step_the_others_are_left_alone_and_it_is_forgotten():
    bound = limit()
    assert lefts(bound, [4.5, *[0.2] * 4]) == pytest.approx([0.001, *[0.2] * 4])
    assert list(bound.state_dict()) == ["a"]
    lefts(bound, [0.2])
    assert bound.state_dict() == {}


def test_a_layer_in_trouble_takes_short_steps_until_the_users_rate_is_back():
    bound = limit()
    # Its weights stay where they are: the reach stays at 0.001.
    expected = [0.001 / (sum(0.998 ** (2 * i) for i in range(n))) ** 0.5 for n in (1, 2, 3)]
    assert lefts(bound, [4.5] * 3) == pytest.approx(expected)
    left = lefts(bound, [0.2] * 6000)
    assert left[0] < 1e-4
    assert left[-1] == pytest.approx(0.2 * 0.001 / (0.04 / (1 - 0.998**2)) ** 0.5, rel=1e-3)
    assert lefts(bound, [1e-6] * 6000)[-1] == pytest.approx(1e-6)
    assert bound.state_dict() == {}


@pytest.mark.parametrize("size", [10.0, 6.0])
def test_the_further_the_weights_have_come_the_longer_are_the_steps(size):
    bound = limit()
    lefts(bound, [4.5] * 3)
    come = np.array([size, 0.0, 6.0, 0.0])
    ratio, reach = 0.72, abs(size**2 - 64) ** 0.5
    left = factors(bound, [ratio * size / 0.5, 0, 1.0, 0], weights=come)[0] * ratio
    energy = ratio**2 + 4.5**2 * sum(0.998 ** (2 * i) for i in (1, 2, 3))
    assert left == pytest.approx(min(0.1, reach / size / energy**0.5 * ratio))


def test_a_memory_is_bounded_whatever_was_seen():
    bound = limit()
    factors(bound, [1e12, 0, 0, 0])
    steps = next(i for i in range(999) if factors(bound, [3.2, 0, 0, 0])[0] == 1.0)
    assert steps < 140


@pytest.mark.parametrize("nothing", [math.nan, math.inf])
def test_norms_that_are_none_change_nothing(nothing):
    bound = limit()
    factors(bound, [9.6, 0, 0, 0])
    before = bound.state_dict()
    assert factors(bound, [nothing, 1.0, 1e9, 1.0]) == [1.0] * 4
    assert bound.state_dict() == before


def test_without_known_weights_nothing_is_bounded():
    assert factors(limit(), [1e9] * 4, weights=None) == [1.0] * 4


def test_on_a_device_it_gives_the_same_factors_and_memory():
    one, other = limit(), limit()
    for norms in ([9.6, 0.1, 1.0, 0.1], [0.5] * 4, [math.nan] * 4, [1e9, 2.0, 50.0, 1.0]):
        tensor = other.factors(torch.tensor(norms), torch.tensor(WEIGHTS), [0.5])
        assert tensor.tolist() == pytest.approx(factors(one, norms), rel=1e-6)
        assert list(other.state_dict()) == list(one.state_dict())
        for layer, row in one.state_dict().items():
            assert other.state_dict()[layer] == pytest.approx(row, rel=1e-6)


def test_a_resumed_one_goes_on_exactly_also_with_other_layers():
    one, other = limit(), TrustRatioClip(0.3)
    factors(one, [72.0, 0, 20.0, 0])
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict()
    other.meet(LAYOUT, ALL, None)
    assert factors(other, [3.2, 0, 3, 0]) == factors(one, [3.2, 0, 3, 0])
    grown = ParameterInfo((*LAYOUT.names, "c.weight"), (*LAYOUT.shapes, (4, 4)))
    memory = other.state_dict()
    other.meet(grown, [np.arange(5)], None)
    assert other.state_dict() == memory


def test_what_the_first_development_versions_kept_is_passed_over():
    bound = TrustRatioClip(0.3)
    bound.load_state_dict({"a": 0.9})
    assert bound.state_dict() == {}


def scales(settings, weights=WEIGHTS, groups=ALL, scale=1.0):
    return AdamLimit(0.3).scales(LAYOUT, weights, settings, groups, [1.0] * len(settings), scale)


def test_adams_rate_is_left_alone_up_to_the_limit():
    assert scales([{**ADAM[0], "lr": 0.59}]) is None  # 0.59 * 4 / 8: the lower one of two matrices


@pytest.mark.parametrize("kind", [{"betas": (0.9, 0.999)}, {"alpha": 0.99, "centered": False}], ids=["adam", "rmsprop"])
def test_beyond_it_the_rate_is_taken_back_the_further_the_further_it_is(kind):
    for ratio, left in ((0.6, 0.15), (4.5, 0.02), (45.0, 0.02)):
        assert scales([{**kind, "lr": 2 * ratio}]) == pytest.approx([left / ratio])


def test_each_group_has_its_own_scale():
    groups = [np.array([0, 1]), np.array([2, 3])]
    settings = [{**ADAM[0], "lr": 1.2}, {**ADAM[0], "lr": 0.01}]
    assert scales(settings, groups=groups) == pytest.approx([0.25, 1.0])


def test_a_back_off_counts():
    assert scales([{**ADAM[0], "lr": 1.2}], scale=0.5) is None


def test_a_group_without_a_matrix_is_left_alone():
    assert scales([{**ADAM[0], "lr": 1e9}], groups=[np.array([1, 3])]) is None
