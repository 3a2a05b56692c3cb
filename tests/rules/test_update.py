# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.rules import LossHistory, RuleSet, UpdateTooLarge
from lightning_gradwatch.snapshot import ParameterInfo

NAN = math.nan
FLAT = [2.3] * 200
FALLING = np.geomspace(2.3, 0.1, 200).tolist()


def played(lab, updates, losses=None, weights=None, layout=None, patience=1):
    """`updates`: per step, for each of the matrices."""
    history = LossHistory()
    rules = RuleSet({"update": UpdateTooLarge(history, patience=patience)}, history)
    layout = layout or lab.stack(len(updates[0]))
    losses = [None] * len(updates) if losses is None else losses
    weights = [2.0] * len(updates) if weights is None else weights
    steps = [
        lab.snapshot(layout, 1.0, updates=row, weights=weight, step=i, loss=loss)
        for i, (row, weight, loss) in enumerate(zip(updates, weights, losses, strict=False))
    ]
    return lab.kinds(lab.play(rules, steps))


def test_three_steps_in_a_row_in_a_third_of_the_matrices_are_a_warning(lab):
    row = [0.6, 1e-3, 1e-3]
    assert played(lab, [row] * 10) == [("update_too_large", "warning", 2)]
    assert played(lab, [row, row, [1e-3] * 3] * 10) == []
    assert played(lab, [[0.6, *[1e-3] * 3]] * 10) == []
    assert played(lab, [[0.5] * 3] * 10) == []


def test_matrices_that_start_at_next_to_nothing_are_judged_ten_steps_after_they_found_their_size(lab):
    weights = [1e-3] * 20 + [2.0] * 40
    assert played(lab, [[0.6] * 3] * 60, weights=weights) == [("update_too_large", "warning", 32)]


def test_it_is_an_alarm_where_the_loss_does_not_improve(lab):
    row = [0.6] * 3
    good = [[1e-3] * 3] * 100
    assert played(lab, good + [row] * 10, FLAT) == [("update_too_large", "alarm", 102)]
    assert played(lab, good + [row] * 10, FALLING) == []
    assert played(lab, good + [row] * 40, FALLING) == [("update_too_large", "warning", 122)]


def test_one_step_at_ten_times_the_weights_is_an_alarm(lab):
    assert played(lab, [[1e-3] * 10, [11.0, *[1e-3] * 9]], FALLING) == [("update_too_large", "alarm", 1)]
    assert played(lab, [[1e-3] * 10, [9.0, *[1e-3] * 9]], FALLING) == []


@pytest.mark.parametrize("left", [0.0, NAN])
def test_a_step_that_left_no_usable_gradient_is_judged_all_the_same(lab, left):
    history = LossHistory()
    layout = lab.stack(3)
    steps = [lab.snapshot(layout, 1.0, weights=2.0), lab.snapshot(layout, left, updates=50.0, weights=2.0, step=1)]
    rules = RuleSet({"update": UpdateTooLarge(history)}, history)
    assert lab.kinds(lab.play(rules, steps)) == [("update_too_large", "alarm", 1)]


def test_it_is_told_once_until_it_cleared(lab):
    bad, between, good = [0.6] * 3, [0.2] * 3, [0.05] * 3
    assert len(played(lab, [bad] * 5 + [between] * 5 + [bad] * 5)) == 1
    assert len(played(lab, [bad] * 5 + [good] * 5 + [bad] * 5)) == 2


def test_steps_that_were_not_measured_neither_count_nor_reset(lab):
    measured, not_measured = [0.6] * 3, [NAN] * 3
    assert played(lab, [measured, not_measured, not_measured, measured, not_measured, measured]) == [
        ("update_too_large", "warning", 5)
    ]
    assert played(lab, [None] * 5, layout=lab.stack(3)) == []


def test_measurements_from_long_ago_neither_count_nor_hold_an_event_back(lab):
    def every(n):
        return [[0.6] * 3 if i % n == 0 else None for i in range(200)]

    layout = lab.stack(3)
    assert played(lab, every(60), layout=layout) == []
    assert len(played(lab, every(40), layout=layout)) == 1
    assert len(played(lab, [[0.6] * 3] * 5 + [None] * 60 + [[0.6] * 3] * 5)) == 2


def test_weights_that_start_at_zero_have_ten_steps_to_find_their_size(lab):
    # LoRA's B under a warm-up: it moves by 1, 2, 3, ... from 0, so the ratios are 2/1, 2/2, 2/3, ...
    updates = [[2 / (k - 1) if k > 1 else NAN, 1e-3] for k in range(30)]
    weights = [[1e-3 * k * (k + 1) / 2, 2.0] for k in range(30)]
    assert played(lab, updates, weights=weights) == []
    assert len(played(lab, updates)) == 1


def test_a_first_step_out_of_a_tiny_start_is_not_an_explosion(lab):
    assert played(lab, [[NAN] * 3, [100.0] * 3], weights=[1e-3, 0.1]) == []
    assert len(played(lab, [[NAN] * 3, [100.0] * 3], weights=[2.0, 200.0])) == 1


@pytest.mark.parametrize(("weight", "told"), [(0.019, 0), (0.021, 1)])
def test_next_to_nothing_is_a_hundredth_of_what_initialisations_give(lab, weight, told):
    # A 4 x 4 matrix with entries of variance 1/4 has a norm of 2.
    assert len(played(lab, [[0.6] * 3] * 60, weights=[weight] * 60)) == told


def test_biases_are_not_judged(lab):
    layout = ParameterInfo(("a.weight", "a.bias"), ((4, 4), (4,)))
    assert played(lab, [[1e-3, 50.0]] * 5, layout=layout) == []


def test_patience_waits_further_steps(lab):
    assert played(lab, [[0.6] * 3] * 20, patience=6) == [("update_too_large", "warning", 7)]


@pytest.mark.parametrize(("step", "data"), [(1, True), (3, True), (4, False)])
def test_a_huge_update_in_the_first_steps_may_be_the_data_too(lab, step, data):
    rule = UpdateTooLarge(LossHistory())
    layout = lab.stack(4)
    (event,) = rule.judge(lab.snapshot(layout, 1.0, updates=[1e-3, 30.0, 12.0, 1e-3], weights=2.0, step=step))
    assert event.remedies[0].id == "GW-05"
    assert ("not normalised" in (event.cause or "")) is data
    assert event.layers == ("net.1", "net.2")
    assert event.message.splitlines() == [
        "weights moved by 30x their norm, limit 0.5",
        "where: net.1 x30, net.2 x12 (2 of 4 matrices)",
        "loss: progress not known",
    ]


def test_some_large_steps_that_bring_the_loss_down_are_left_alone(lab):
    rows = [[0.01] * 3] * 20 + [[0.8] * 3] * 12
    useful = [2.3] * 20 + [2.2 - 0.1 * i for i in range(12)]
    useless = [2.3 + 0.01 * (i % 3) for i in range(32)]
    assert played(lab, rows, useful) == []
    assert played(lab, rows, useless) == [("update_too_large", "warning", 27)]
