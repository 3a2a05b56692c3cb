# SPDX-License-Identifier: Apache-2.0
"""Depth: the profile itself, and the two rules that read it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.rules import ExplodingDepth, LossHistory, RuleSet, VanishingDepth, depth_factor, speed_spread
from lightning_gradwatch.rules.depth import sensitivities
from lightning_gradwatch.snapshot import ParameterInfo

FLAT = [2.3] * 400
FALLING = np.geomspace(2.3, 0.5, 400).tolist()


def profile(factor, depth):
    """Norms that grow by `factor` per layer from the last, which has 1, to the first."""
    return [factor ** (depth - 1 - i) for i in range(depth)]


def exploding(lab, norms, losses, **kwargs):
    history = LossHistory()
    rules = RuleSet({"depth": ExplodingDepth(history)}, history)
    layout = kwargs.pop("layout", None) or lab.stack(len(norms))
    return lab.play(rules, [lab.snapshot(layout, norms, step=i, loss=loss, **kwargs) for i, loss in enumerate(losses)])


def vanishing(lab, norms, losses, patience=1, **kwargs):
    history = LossHistory()
    rules = RuleSet({"depth": VanishingDepth(history, patience=patience)}, history)
    at = norms if callable(norms) else lambda i: norms
    layout = lab.stack(len(at(0)))
    steps = [lab.snapshot(layout, at(i), step=i, loss=loss, **kwargs) for i, loss in enumerate(losses)]
    return lab.play(rules, steps)


@pytest.mark.parametrize("factor", [25.0, 0.25, 1.0])
def test_the_depth_factor_is_the_growth_per_layer(lab, factor):
    assert depth_factor(lab.snapshot(lab.stack(6), profile(factor, 6))) == pytest.approx(factor, rel=1e-12)


def test_the_depth_factor_speaks_of_whole_layers_that_own_a_matrix(lab):
    layout = ParameterInfo(("a.weight", "a.bias", "norm.weight", "b.weight"), ((2, 2), (2,), (2,), (2, 2)))
    assert depth_factor(lab.snapshot(layout, [3.0, 4.0, 99.0, 1.0])) == pytest.approx(5.0)


def test_the_depth_factor_needs_two_layers(lab):
    assert depth_factor(lab.snapshot(lab.stack(1), [1.0])) is None
    assert depth_factor(lab.snapshot(lab.stack(3), [0.0, math.nan, 1.0])) is None


def test_the_speed_spread_is_fastest_over_slowest():
    assert speed_spread(np.array([1e-3, math.nan, 1e-5, 0.0])) == pytest.approx(100.0)
    assert speed_spread(np.array([math.nan, 0.0])) is None


def test_a_chain_of_sigmoids_with_weights_of_100_grows_25_times_per_layer(lab):
    # dL/dw_k = delta_k * 0.5, delta_{k-1} = 100 * 1/4 * delta_k. Biases get delta_k itself.
    names = tuple(f"net.{i}.{kind}" for i in range(5) for kind in ("weight", "bias"))
    layout = ParameterInfo(names, ((1, 1), (1,)) * 5)
    delta = np.repeat(0.125 * 25.0 ** np.arange(4, -1, -1), 2)
    norms, weights = delta * np.tile([0.5, 1.0], 5), np.tile([100.0, 50.0], 5)
    (event,) = exploding(lab, norms, [0.125], layout=layout, weights=weights)
    assert (event.kind, event.severity, event.step) == ("explosion", "warning", 0)
    assert event.message.startswith("gradient grows x25 per layer from net.4 (0.14) to net.0 (5.5e4)\n")
    assert event.layers[0] == "net.0"


def test_exploding_is_a_warning_once_it_held_and_an_alarm_without_progress(lab):
    norms = [2e3, 1.0, 3.0, 1.0, 1.0]
    assert lab.kinds(exploding(lab, norms, FLAT)) == [("explosion", "warning", 5), ("explosion", "alarm", 50)]
    assert lab.kinds(exploding(lab, norms, FALLING)) == [("explosion", "warning", 5)]
    assert lab.kinds(exploding(lab, norms, [None] * 200)) == [("explosion", "warning", 5)]


def test_one_look_alone_is_no_explosion(lab):
    assert exploding(lab, [2e3, 1.0, 3.0, 1.0, 1.0], [2.3] * 5) == []


def test_a_large_first_layer_below_the_line_is_fine(lab):
    assert exploding(lab, [900.0, 1.0, 1.0, 1.0], FLAT) == []


def test_branches_that_start_at_zero_do_not_make_the_last_layers_small(lab):
    # Zero-initialised: their weights are 0, and so are the gradients of what lies within the branch.
    norms, weights = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert exploding(lab, norms, FLAT, weights=weights) == []


def test_vanishing_needs_two_windows_no_progress_and_a_fifth_of_the_matrices(lab):
    sick = profile(0.2, 10)
    assert lab.kinds(vanishing(lab, sick, FLAT)) == [("vanishing", "alarm", 99)]
    assert vanishing(lab, sick, FLAT[:99]) == []
    assert vanishing(lab, sick, FALLING) == []
    assert lab.kinds(vanishing(lab, sick, [None] * 400)) == [("vanishing", "warning", 99)]
    assert vanishing(lab, [1e-4, *[1.0] * 9], FLAT) == []
    assert len(vanishing(lab, [1e-4, 1e-4, *[1.0] * 8], FLAT)) == 1


def test_a_converged_model_is_not_vanishing(lab):
    # Its loss has nothing left to gain, its last layer keeps most of what gradient there is.
    losses = [2.0] * 50 + [0.001] * 350
    assert vanishing(lab, profile(0.2, 10), losses) == []


def test_vanishing_names_the_layers_and_the_factor(lab):
    (event,) = vanishing(lab, profile(0.2, 10), FLAT)
    assert event.layers == tuple(f"net.{i}" for i in range(7))
    assert event.message.splitlines() == [
        "gradient shrinks x0.2 per layer from net.9 (1) to net.0 (5.1e-7)",
        "loss: no progress in 50 steps (2.3 -> 2.3)",
    ]
    assert event.cause == "small derivatives (a sigmoid's is at most 1/4) or small weights, multiplied over 10 layers"
    assert event.value == pytest.approx(0.2**9)


def test_a_profile_that_falls_layer_by_layer_is_judged_at_ten_times_the_ratio(lab):
    # Ten ReLU layers as torch initialises them: 2.5e-3 of the largest s at the first.
    assert lab.kinds(vanishing(lab, profile(0.5, 10), FLAT)) == [("vanishing", "alarm", 99)]
    assert vanishing(lab, profile(0.5, 10), FALLING) == []
    assert vanishing(lab, profile(0.7, 10), FLAT) == []
    shuffled = [profile(0.5, 10)[i] for i in (3, 0, 8, 1, 9, 5, 7, 2, 6, 4)]
    assert vanishing(lab, shuffled, FLAT) == []
    assert vanishing(lab, [2e-3] * 5 + [1.0] * 5, FLAT) == []  # one layer makes all of the fall
    assert vanishing(lab, [2e-3, 0.05, 1.0], FLAT) == []  # too few layers to make a profile


def test_a_profile_that_falls_only_on_the_whole_is_not_one_that_falls_layer_by_layer(lab):
    # Rank correlation 0.49, both ends in place, and no step of half the fall.
    assert vanishing(lab, [2.0 ** (i - 9) for i in (0, 4, 8, 5, 1, 2, 6, 3, 7, 9)], FLAT) == []


@pytest.mark.parametrize(("factor", "depth", "found"), [(0.22, 5, 0), (0.3, 6, 1)])
def test_six_matrices_make_a_profile(lab, factor, depth, found):
    # Both fall evenly to about 2.4e-3 of the largest s, with a fifth or more below ten times the ratio.
    assert len(vanishing(lab, profile(factor, depth), FLAT)) == found


def test_above_ten_times_the_ratio_no_profile_is_starved(lab):
    assert vanishing(lab, profile(0.6, 10), FLAT) == []  # 0.0101 of the largest s at the first


@pytest.mark.parametrize(("share", "found"), [(0.4, 1), (0.6, 0)])
def test_a_profile_falls_layer_by_layer_while_no_single_one_makes_half_of_the_fall(lab, share, found):
    others = (1 - share) / 8
    falls = np.cumsum([0.0, *[others] * 4, share, *[others] * 4])[::-1]
    assert len(vanishing(lab, 2.5e-3**falls, FLAT)) == found


@pytest.mark.parametrize(("bad", "found"), [((0,), 0), ((0, 1), 1)])
def test_a_matrix_is_starved_that_is_low_at_most_of_the_looks(lab, bad, found):
    # There is a look at every fifth step.
    events = vanishing(lab, lambda i: [1e-4 if i // 5 % 3 in bad else 1.0] * 5 + [1.0] * 5, FLAT)
    assert len(events) == found


def test_a_relapse_is_told_after_fewer_looks_while_the_last_time_is_not_forgotten(lab):
    def relapse(well):  # looks without a low matrix, between two times with
        return lambda i: [1.0 if 200 <= i < 200 + 5 * well else 1e-4] * 5 + [1.0] * 5

    for well, looks in ((16, 3), (21, 4)):  # 0.8**16 of what was is left, or less than a hundredth
        _, again = vanishing(lab, relapse(well), FLAT)
        assert again.step == 200 + 5 * (well + looks) - 1


def test_layers_that_starve_towards_the_output_are_told_the_other_way(lab):
    (event,) = vanishing(lab, profile(5.0, 10), FLAT)
    assert event.message.startswith("gradient shrinks x0.2 per layer from net.0 (2e6) to net.9 (1)")


def test_what_the_weights_alone_make_is_told_by_the_loss(lab):
    (event,) = vanishing(lab, [1.0] * 4, FLAT, weights=[1e-5, 1.0, 1.0, 1.0])
    assert event.message.startswith("the loss responds 1e-5 times as much to net.0 as to net.1\n")


def test_vanishing_is_told_once_and_again_only_after_it_cleared(lab):
    def relapse(between):
        good = [between] * 5 + [1.0] * 5
        return lambda i: good if 200 <= i < 300 else [1e-4] * 5 + [1.0] * 5

    assert len(vanishing(lab, relapse(2e-3), FLAT)) == 1  # above the ratio, but not above three times the ratio
    assert len(vanishing(lab, relapse(5e-3), FLAT)) == 2


def test_patience_waits_further_steps(lab):
    assert vanishing(lab, profile(0.2, 10), FLAT, patience=21)[0].step == 119


def test_idle_experts_take_no_part(lab):
    # One of eight experts is used per step, the others get exactly 0.
    assert vanishing(lab, lambda i: [1.0, *[float(i % 8 == k) for k in range(8)], 1.0], FLAT) == []


def test_without_norms_of_the_weights_nothing_is_said(lab):
    assert vanishing(lab, profile(0.1, 10), FLAT, weights=None) == []
    assert exploding(lab, profile(10, 10), FLAT, weights=None) == []


def test_only_matrices_with_gradient_and_weights_take_part(lab):
    layout = ParameterInfo(
        ("a.weight", "a.bias", "b.weight", "c.weight", "d.weight"), ((2, 2), (2,), (2, 2), (2, 2), (2, 2))
    )
    chosen, s = sensitivities(lab.snapshot(layout, [2.0, 5.0, 0.0, 3.0, 1.0], weights=[3.0, 1.0, 1.0, 0.0, 1.0]))
    assert (chosen.tolist(), s.tolist()) == ([0, 4], [6.0, 1.0])


@pytest.mark.parametrize("power", [-10, 10])
def test_layers_whose_scale_moved_to_others_get_the_same_verdict(lab, power):
    rng = np.random.default_rng(0)
    scale = 2.0 ** (power * rng.integers(-3, 4, 10))
    for play, norms in ((vanishing, profile(0.2, 10)), (exploding, profile(4.0, 10))):
        plain = play(lab, norms, FLAT)
        moved = play(lab, np.array(norms) / scale, FLAT, weights=scale)
        assert plain
        assert [(e.kind, e.severity, e.step, e.layers, e.value) for e in plain] == [
            (e.kind, e.severity, e.step, e.layers, e.value) for e in moved
        ]
