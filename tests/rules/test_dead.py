# SPDX-License-Identifier: Apache-2.0
"""Layers without a gradient, or with one that changes nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.rules import Dead, Disconnected, LossHistory, NotUpdated, RuleSet
from lightning_gradwatch.snapshot import ParameterInfo

FLAT = [2.3] * 200
FALLING = np.geomspace(2.3, 0.5, 200).tolist()


def played(lab, rule_class, at, losses, layout=None, updates=None, lr=None, **kwargs):
    """`at(i)`: norms of step i."""
    history = LossHistory()
    rules = RuleSet({"rule": rule_class(history, **kwargs)}, history)
    layout = layout or lab.stack(len(at(0)))
    steps = [
        lab.snapshot(layout, at(i), step=i, loss=loss, lr=lr, updates=None if updates is None else updates(i))
        for i, loss in enumerate(losses)
    ]
    return lab.play(rules, steps)


class TestDead:
    def test_the_first_layer_without_progress_is_an_alarm(self, lab):
        (event,) = played(lab, Dead, lambda i: [0.0, 0.0, 1.0], FLAT, steps=60)
        assert (event.kind, event.severity, event.step, event.layers) == ("dead", "alarm", 59, ("net.0", "net.1"))
        assert event.message.splitlines() == [
            "gradient exactly 0 for 60 steps in net.0, net.1",
            "loss: no progress in 30 steps (2.3 -> 2.3)",
        ]

    def test_a_training_that_improves_or_a_later_layer_is_a_warning(self, lab):
        assert [e.severity for e in played(lab, Dead, lambda i: [0.0, 1.0], FALLING)] == ["warning"]
        assert [e.severity for e in played(lab, Dead, lambda i: [1.0, 0.0], FLAT)] == ["warning"]

    def test_a_warning_becomes_an_alarm_when_progress_ends(self, lab):
        losses = np.geomspace(2.3, 0.5, 100).tolist() + [0.5] * 100
        assert [e.severity for e in played(lab, Dead, lambda i: [0.0, 1.0], losses)] == ["warning", "alarm"]

    def test_any_gradient_starts_the_count_again(self, lab):
        assert played(lab, Dead, lambda i: [float(i % 50 == 49), 1.0], FLAT) == []

    def test_a_step_without_a_gradient_starts_the_count_again(self, lab):
        assert played(lab, Dead, lambda i: [None if i % 50 == 49 else 0.0, 1.0], FLAT) == []

    def test_a_layer_lives_as_long_as_one_of_its_matrices_does(self, lab):
        layout = ParameterInfo(("a.ih", "a.hh", "a.bias", "b.weight"), ((2, 2), (2, 2), (2,), (2, 2)))
        assert played(lab, Dead, lambda i: [1.0, 0.0, 0.0, 1.0], FLAT, layout) == []
        assert len(played(lab, Dead, lambda i: [0.0, 0.0, 0.0, 1.0], FLAT, layout)) == 1

    def test_a_bias_above_zero_inputs_keeps_no_layer_alive(self, lab):
        layout = ParameterInfo(("a.weight", "a.bias", "b.weight"), ((2, 2), (2,), (2, 2)))
        (event,) = played(lab, Dead, lambda i: [0.0, 1.0, 1.0], FLAT, layout)
        assert event.layers == ("a",)

    def test_a_layer_without_a_matrix_lives_by_any_of_its_parameters(self, lab):
        layout = ParameterInfo(("a.weight", "norm.weight", "norm.bias"), ((2, 2), (2,), (2,)))
        assert played(lab, Dead, lambda i: [1.0, 0.0, 1.0], FLAT, layout) == []
        assert len(played(lab, Dead, lambda i: [1.0, 0.0, 0.0], FLAT, layout)) == 1

    def test_a_layer_that_dies_later_is_told_for_itself(self, lab):
        events = played(lab, Dead, lambda i: [1.0, 0.0, float(i < 20)], FLAT)
        assert [(e.step, e.layers) for e in events] == [(49, ("net.1",)), (69, ("net.2",))]
        assert [e.remedies[0].id for e in events] == ["GW-15", "GW-16"]

    def test_a_layer_that_recovers_may_die_again(self, lab):
        assert len(played(lab, Dead, lambda i: [1.0, float(i == 100)], FLAT)) == 2

    def test_steps_at_which_all_is_zero_are_not_held_against_layers(self, lab):
        # A hinge loss that is satisfied nine times out of ten.
        assert played(lab, Dead, lambda i: [float(i % 10 == 0)] * 2, [float(i % 10 == 0) for i in range(200)]) == []

    def test_a_loss_of_zero_explains_gradients_of_zero(self, lab):
        assert played(lab, Dead, lambda i: [float(i < 30)] * 2, [1.0] * 30 + [0.0] * 170) == []

    def test_all_gradients_zero_at_a_loss_that_stays_is_one_alarm(self, lab):
        (event,) = played(lab, Dead, lambda i: [0.0] * 3, FLAT)
        assert (event.severity, event.step) == ("alarm", 49)
        assert event.message.startswith("gradient exactly 0 for 50 steps in all 3 layers\n")

    @pytest.mark.parametrize("nothing", [[None, None], [math.nan, 0.0]])
    def test_steps_without_gradients_and_those_that_are_not_finite_say_nothing(self, lab, nothing):
        assert played(lab, Dead, lambda i: nothing, FLAT) == []

    def test_patience_waits_further_steps(self, lab):
        assert played(lab, Dead, lambda i: [0.0, 1.0], FLAT, patience=11)[0].step == 59


class TestDisconnected:
    def test_a_parameter_that_never_had_a_gradient_is_named(self, lab):
        (event,) = played(lab, Disconnected, lambda i: [None, 1.0, None], FLAT, steps=60)
        assert (event.kind, event.severity, event.step) == ("disconnected", "alarm", 59)
        assert event.message.splitlines()[0] == "never a gradient in 60 steps in net.0, net.2"
        assert event.layers == ("net.0", "net.2")

    def test_an_unused_head_is_a_warning(self, lab):
        assert [e.severity for e in played(lab, Disconnected, lambda i: [1.0, None], FLAT)] == ["warning"]

    def test_one_gradient_at_any_time_is_enough(self, lab):
        assert played(lab, Disconnected, lambda i: [1.0, 0.0 if i == 3 else None], FLAT) == []
        assert played(lab, Disconnected, lambda i: [1.0 if i < 100 else None, 1.0], FLAT) == []

    def test_no_gradient_at_all_is_an_alarm_while_the_loss_is_stuck(self, lab):
        (event,) = played(lab, Disconnected, lambda i: [None, None], FLAT)
        assert (event.severity, event.step, event.layers) == ("alarm", 49, ("net.0", "net.1"))
        assert event.message.splitlines()[0] == "no gradient at all for 50 steps, in none of 2 layers"
        assert [e.severity for e in played(lab, Disconnected, lambda i: [None], [None] * 200)] == ["warning"]

    def test_no_gradient_at_all_is_fine_now_and_then_or_while_others_learn(self, lab):
        assert played(lab, Disconnected, lambda i: [1.0 if i % 50 == 49 else None], FLAT) == []
        assert played(lab, Disconnected, lambda i: [None, None], FALLING) == []


class TestNotUpdated:
    def test_a_parameter_that_has_a_gradient_but_stays_is_named(self, lab):
        (event,) = played(lab, NotUpdated, lambda i: [1.0, 1.0], FALLING, updates=lambda i: [0.0, 1e-3])
        assert (event.kind, event.severity, event.step) == ("not_updated", "warning", 50)
        assert event.message.splitlines()[0] == "weights unchanged for 50 steps in net.0"

    def test_it_is_an_alarm_once_there_is_no_progress(self, lab):
        events = played(lab, NotUpdated, lambda i: [1.0, 1.0], FLAT, updates=lambda i: [0.0, 1e-3], steps=60)
        assert [event.severity for event in events] == ["alarm"]

    def test_three_measurements_are_needed(self, lab):
        def every(n):
            return lambda i: [0.0 if i % n == 0 else math.nan, 1e-3]

        assert played(lab, NotUpdated, lambda i: [1.0, 1.0], FLAT[:100], updates=every(60)) == []
        assert len(played(lab, NotUpdated, lambda i: [1.0, 1.0], FLAT, updates=every(60))) == 1

    def test_one_change_starts_the_count_again(self, lab):
        assert played(lab, NotUpdated, lambda i: [1.0], FLAT, updates=lambda i: [float(i % 40 == 0)]) == []

    def test_without_a_gradient_nothing_has_to_move(self, lab):
        assert played(lab, NotUpdated, lambda i: [0.0, 1.0], FLAT, updates=lambda i: [0.0, 1e-3]) == []

    def test_heads_that_take_turns_stay_where_they_had_no_gradient(self, lab):
        def measured(i):  # of step i - 1, whose turn was the other head's
            return [float(i % 2), float(i % 2 == 0)] if i % 10 == 0 else [math.nan] * 2

        assert played(lab, NotUpdated, lambda i: [float(i % 2 == 0), float(i % 2)], FALLING, updates=measured) == []

    def test_an_update_of_a_vanished_gradient_may_be_lost_in_rounding(self, lab):
        assert played(lab, NotUpdated, lambda i: [1e-4, 1.0], FLAT, updates=lambda i: [0.0, 1e-3]) == []

    @pytest.mark.parametrize(("norm", "told"), [(0.0009, 0), (0.0011, 1)])
    def test_vanished_is_a_thousandth_of_the_largest(self, lab, norm, told):
        events = played(lab, NotUpdated, lambda i: [norm, 1.0], FALLING, updates=lambda i: [0.0, 1e-3])
        assert len(events) == told

    def test_a_learning_rate_of_zero_explains_it(self, lab):
        assert played(lab, NotUpdated, lambda i: [1.0], FLAT, updates=lambda i: [0.0], lr=0.0) == []

    def test_the_update_after_a_step_that_is_not_finite_may_have_been_skipped(self, lab):
        at = lambda i: [math.nan if i % 2 else 1.0]  # noqa: E731
        assert played(lab, NotUpdated, at, FLAT, updates=lambda i: [0.0 if i and i % 2 == 0 else math.nan]) == []
