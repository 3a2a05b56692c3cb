# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.rules import LossHistory, RuleSet, Stalled

FLAT = [2.3] * 300
TINY = [1e-9, 1e-8, 1e-3]


def played(lab, updates, losses, rates=None, **kwargs):
    history = LossHistory()
    rules = RuleSet({"stalled": Stalled(history, **kwargs)}, history)
    layout = lab.stack(3)
    rates = [1e-3] * len(losses) if rates is None else rates
    at = updates if callable(updates) else lambda i: updates
    steps = [
        lab.snapshot(layout, 1.0, updates=at(i), step=i, loss=loss, lr=lr)
        for i, (loss, lr) in enumerate(zip(losses, rates, strict=True))
    ]
    return lab.play(rules, steps)


def test_tiny_updates_without_progress_are_one_alarm(lab):
    (event,) = played(lab, TINY, FLAT)
    assert (event.kind, event.severity, event.step) == ("stalled", "alarm", 99)
    assert event.message.splitlines() == [
        "weights move by 1e-8 of their norm, limit 1e-6 (20 looks)",
        "loss: no progress in 50 steps (2.3 -> 2.3)",
    ]


def test_half_of_the_parameters_may_rest(lab):
    assert played(lab, [1e-9, 1e-3, 1e-3], FLAT) == []


def test_without_a_loss_it_is_a_warning(lab):
    assert [event.severity for event in played(lab, TINY, [None] * 300)] == ["warning"]


@pytest.mark.parametrize("losses", [np.geomspace(2.3, 0.5, 300), [2.3] * 50 + [1e-3] * 250])
def test_progress_and_a_converged_loss_are_fine(lab, losses):
    assert played(lab, TINY, list(losses)) == []


def test_a_warm_up_is_waited_for(lab):
    rising = [1e-9 * i for i in range(1, 301)]
    assert played(lab, TINY, FLAT[:199], rising[:199]) == []
    assert played(lab, TINY, FLAT, rising[:120] + [1.2e-7] * 180)[0].step == 119 + 50


def test_a_warm_up_that_moves_nothing_in_four_windows_is_a_warning_that_names_the_schedule(lab):
    (event,) = played(lab, TINY, FLAT, [1e-9 * i for i in range(1, 301)])
    assert (event.severity, event.step) == ("warning", 199)
    assert "the learning rate is still rising, and 2e-7 after 200 steps" in event.cause


@pytest.mark.parametrize("low", [0.0, 5e-8])
def test_a_rate_that_fell_to_nearly_0_is_named_with_its_step(lab, low):
    (event,) = played(lab, 1e-3, FLAT, [1e-3] * 10 + [low] * 290)
    assert (event.kind, event.severity, event.step) == ("stalled", "alarm", 59)
    fall = "to 0" if low == 0 else "to 5e-5 of its peak 1e-3"
    assert event.cause == f"the learning rate's schedule: the learning rate fell {fall} at step 10"


def test_a_schedule_may_end_at_0(lab):
    assert played(lab, 1e-3, FLAT, [1e-3] * 250 + [0.0] * 50) == []


def test_updates_of_a_few_millionths_count_while_the_loss_is_at_its_start(lab):
    assert [(event.kind, event.severity) for event in played(lab, 5e-6, FLAT)] == [("stalled", "warning")]
    assert played(lab, 5e-6, [2.3] * 20 + [1.2] * 280) == []


def test_a_few_measured_parameters_of_many_prove_nothing(lab):
    one = [1e-9] + [math.nan] * 99
    history = LossHistory()
    rules = RuleSet({"stalled": Stalled(history)}, history)
    steps = [
        lab.snapshot(lab.stack(100), 1.0, updates=one if i % 50 == 0 else None, step=i, loss=2.3) for i in range(300)
    ]
    assert lab.play(rules, steps) == []


def test_the_low_end_of_a_schedule_is_meant(lab):
    def lower(i):
        return [1e-3] * 3 if i < 60 else TINY

    assert played(lab, lower, FLAT, [1e-3] * 60 + [2.9e-4] * 240) == []
    assert len(played(lab, lower, FLAT, [1e-3] * 60 + [3.1e-4] * 240)) == 1
    assert len(played(lab, TINY, FLAT, [1e-3] * 60 + [2.9e-4] * 240)) == 1  # where the highest moved nothing either


def test_a_cycle_of_learning_rates_is_fine(lab):
    rates = [1e-3 * (0.5 + 0.5 * math.cos(i / 10)) for i in range(300)]
    assert played(lab, lambda i: [1e-8 if rates[i] < 2e-4 else 1e-3] * 3, FLAT, rates) == []


def test_sparse_measurements_are_enough(lab):
    assert len(played(lab, lambda i: TINY if i % 20 == 0 else None, FLAT)) == 1
    assert len(played(lab, lambda i: [TINY[0] if i % 3 == k else math.nan for k in range(3)], FLAT)) == 1


def test_the_third_measurement_tells(lab):
    for every in (60, 100):
        (event,) = played(lab, lambda i, every=every: TINY if i % every == 0 else None, FLAT)
        assert event.step == 2 * every


def test_it_is_told_again_only_after_it_moved(lab):
    def pause(middle):
        return lambda i: [middle] * 3 if i == 150 else TINY

    assert len(played(lab, pause(2e-5), FLAT)) == 1
    assert len(played(lab, pause(4e-5), FLAT)) == 2


def test_patience_waits_further_steps(lab):
    assert played(lab, TINY, FLAT, patience=11)[0].step == 109
