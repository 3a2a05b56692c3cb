# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.rules import LossHistory, RuleSet, Spike


def played(lab, norms, losses=None, **kwargs):
    history = LossHistory()
    rules = RuleSet({"spike": Spike(history, **kwargs)}, history)
    layout = lab.stack(1)
    losses = [None] * len(norms) if losses is None else losses
    steps = [
        lab.snapshot(layout, [norm], step=i, loss=loss)
        for i, (norm, loss) in enumerate(zip(norms, losses, strict=True))
    ]
    return lab.kinds(lab.play(rules, steps)), rules.spike


def noisy(n, level=1.0, sigma=0.1, seed=0):
    return (level * np.exp(sigma * np.random.default_rng(seed).normal(size=n))).tolist()


def test_ten_times_the_median_is_the_line(lab):
    assert played(lab, [1.0] * 60 + [10.0])[0] == []
    assert played(lab, [1.0] * 60 + [10.1])[0] == [("spike", "warning", 60)]


def test_constant_norms_are_never_spikes(lab):
    assert played(lab, [1.0] * 300 + [1.00001] + [1.0] * 20)[0] == []


def test_noise_widens_the_line(lab):
    # Six deviations of the logarithm at sigma 0.5 are a factor of 20.
    norms = noisy(200, sigma=0.5)
    assert played(lab, [*norms, 14.0])[0] == []
    assert played(lab, [*norms, 40.0])[0] == [("spike", "warning", 200)]


def test_every_spike_is_an_event_and_does_not_move_the_baseline(lab):
    norms = noisy(100)
    for i in (60, 70, 71, 90):
        norms[i] = 500.0
    events, rule = played(lab, norms)
    assert [step for _, _, step in events] == [60, 70, 71, 90]
    assert rule.baseline.median == pytest.approx(1.0, abs=0.05)


def test_one_huge_spike_is_an_alarm(lab):
    assert played(lab, [1.0] * 60 + [1.1e4])[0] == [("spike", "alarm", 60)]


def test_ten_thousand_times_the_usual_norm_is_the_line_to_an_alarm(lab):
    assert played(lab, [1.0] * 60 + [9.9e3])[0] == [("spike", "warning", 60)]
    assert played(lab, [1.0] * 60 + [1.01e4])[0] == [("spike", "alarm", 60)]


def test_repeated_spikes_are_an_alarm_only_where_the_loss_rises_after_the_first(lab):
    norms = [1.0] * 120
    for i in (100, 105, 110):
        norms[i] = 50.0
    rising = [1.0] * 100 + [1.5] * 20
    assert [severity for _, severity, _ in played(lab, norms, rising)[0]] == ["warning", "warning", "alarm"]
    assert [severity for _, severity, _ in played(lab, norms, [1.0] * 120)[0]] == ["warning"] * 3
    assert [severity for _, severity, _ in played(lab, norms)[0]] == ["warning"] * 3


def test_repeated_spikes_get_other_advice_than_an_outlier(lab):
    history = LossHistory()
    rules = RuleSet({"spike": Spike(history)}, history)
    layout, spikes = lab.stack(1), (100, 105, 110)
    steps = [
        lab.snapshot(layout, [50.0 if i in spikes else 1.0], loss=1.0 if i < 100 else 1.5, step=i) for i in range(120)
    ]
    assert [event.remedies[0].id for event in lab.play(rules, steps)] == ["GW-08", "GW-08", "GW-09"]


def test_two_spikes_may_be_chance_also_where_the_loss_rises(lab):
    norms = [1.0] * 120
    norms[100] = norms[110] = 50.0
    assert [severity for _, severity, _ in played(lab, norms, [1.0] * 100 + [1.5] * 20)[0]] == ["warning"] * 2


def test_spikes_where_the_loss_jumps_once_and_then_falls_are_another_task_not_an_explosion(lab):
    # Three in a row before the fifth makes a new level: the loss is high, yet does not go on rising.
    norms, losses = [1.0] * 100 + [50.0] * 3, [1.0] * 100
    assert [s for _, s, _ in played(lab, norms, [*losses, 6.4, 6.5, 6.6])[0]] == ["warning"] * 3
    assert [s for _, s, _ in played(lab, norms, [*losses, 6.4, 9.0, 20.0])[0]] == ["warning", "warning", "alarm"]


def test_a_converged_training_may_meet_what_it_knew_at_the_start(lab):
    norms = [1.0] * 10 + np.geomspace(1.0, 1e-5, 90).tolist() + [1e-5] * 200
    assert [severity for _, severity, _ in played(lab, [*norms, 3.0])[0]] == ["warning"]
    assert [severity for _, severity, _ in played(lab, [*norms, 3e4])[0]] == ["alarm"]


def test_ten_norms_make_the_level_at_the_start(lab):
    # The median of ten is that of the start, however soon it fell after them.
    assert played(lab, [1.0] * 10 + [1e-5] * 190 + [3.0])[0] == [("spike", "warning", 200)]
    assert played(lab, [1.0] * 4 + [1e-5] * 196 + [3.0])[0] == [("spike", "alarm", 200)]


def test_before_the_warm_up_only_the_emergency_limit_holds(lab):
    assert played(lab, [1.0, 1.0, 1.0, 99.0])[0] == []
    assert played(lab, [1.0, 1.0, 1.0, 101.0])[0] == [("spike", "warning", 3)]
    assert played(lab, [1.0, 1.0, 1e9])[0] == []


def test_a_level_that_was_usual_in_the_run_is_no_spike(lab):
    # Converging from 1 to 1e-3, then back: one step in ten so far was that high.
    assert played(lab, [1.0] * 40 + [1e-3] * 100 + [0.9])[0] == []
    assert len(played(lab, [1.0] * 4 + [1e-3] * 140 + [0.9])[0]) == 1


def test_a_lasting_jump_is_told_once_and_becomes_normal(lab):
    events, rule = played(lab, noisy(100) + noisy(200, level=12.0, sigma=0.05))
    assert events == [("spike", "warning", 100 + i) for i in range(5)] + [("level_shift", "info", 104)]
    assert rule.baseline.median == pytest.approx(12.0, rel=0.1)


def test_the_engine_may_reseed_as_well(lab):
    events, rule = played(lab, [1.0] * 60 + [20.0] * 3)
    rule.reseed()
    assert len(events) == 3
    assert (rule.baseline.median, rule.baseline.count) == (20.0, 5)


def test_the_limit_of_the_coming_step_comes_from_past_norms(lab):
    assert played(lab, [1.0] * 2)[1].limit == math.inf
    assert played(lab, [1.0] * 10)[1].limit == 100.0
    assert played(lab, [1.0] * 60)[1].limit == 10.0
    assert played(lab, [1.0] * 60 + [1e6])[1].limit == 10.0


@pytest.mark.parametrize("nothing", [math.nan, math.inf, 0.0, None])
def test_steps_that_are_not_finite_or_zero_neither_blind_nor_fire(lab, nothing):
    norms = [1.0] * 20 + [nothing] * 10 + [1.0] * 20 + [50.0]
    assert played(lab, norms)[0] == [("spike", "warning", 50)]


def test_heavy_noise_for_five_thousand_steps_makes_a_handful_of_spikes_and_no_alarm(lab):
    events, _ = played(lab, noisy(5000, sigma=0.5), noisy(5000, sigma=0.3, seed=1))
    assert len(events) <= 5
    assert not [event for event in events if event[1] == "alarm"]


def test_students_noise_with_three_degrees_of_freedom_makes_no_alarm(lab):
    norms = np.exp(0.25 * np.random.default_rng(0).standard_t(3, size=5000)).tolist()
    events, _ = played(lab, norms, noisy(5000, sigma=0.3))
    assert len(events) <= 25
    assert not [event for event in events if event[1] == "alarm"]


def test_a_loss_that_did_not_change_is_no_outlier_batch(lab):
    history = LossHistory()
    rules = RuleSet({"spike": Spike(history)}, history)
    norms = [1.0] * 60 + [30.0]
    (event,) = lab.play(rules, [lab.snapshot(lab.stack(2), n, step=i, loss=2.3) for i, n in enumerate(norms)])
    assert event.cause == "cause unknown: the gradient jumped, the loss did not (loss 2.3 -> 2.3)"


def test_the_less_is_known_the_more_it_takes(lab):
    spike = Spike(LossHistory())
    limits = []
    for i in range(60):
        spike.judge(lab.snapshot(lab.stack(1), 1.0, step=i))
        limits.append(spike.limit)
    assert limits[18] == 100.0
    assert limits[18:51] == sorted(limits[18:51], reverse=True)
    assert limits[50] == 10.0


def test_the_event_says_where_and_what_the_loss_and_the_learning_rate_did(lab):
    history = LossHistory()
    rules = RuleSet({"spike": Spike(history)}, history)
    layout = lab.stack(3)
    steps = [lab.snapshot(layout, [1.0, 2.0, 1.0], loss=2.1, lr=0.1, step=i) for i in range(60)]
    steps.append(lab.snapshot(layout, [3e3, 3e4, 1.0], loss=9.8, lr=0.1, step=60))
    (event,) = lab.play(rules, steps)
    assert event.layers == ("net.1",)
    assert event.message == "grad norm 3e4, limit 24 (10x the median of 50 steps)\nwhere: net.1 99 %"
    assert event.cause == "outlier batch (loss 2.1 -> 9.8, learning rate steady)"
    assert event.value / event.limit == pytest.approx(1231, rel=1e-3)


@pytest.mark.parametrize(("share", "layers"), [(0.009, ("net.0",)), (0.011, ("net.0", "net.1"))])
def test_a_layer_that_makes_less_than_a_hundredth_of_the_norm_is_not_blamed(lab, share, layers):
    history = LossHistory()
    rules = RuleSet({"spike": Spike(history)}, history)
    parts = [math.sqrt(1 - share), math.sqrt(share)]  # shares are of the squared norm
    steps = [
        lab.snapshot(lab.stack(2), [size * part for part in parts], step=i)
        for i, size in enumerate([1.0] * 60 + [100.0])
    ]
    (event,) = lab.play(rules, steps)
    assert event.layers == layers
