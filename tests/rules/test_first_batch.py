# SPDX-License-Identifier: Apache-2.0
"""Rules that learn from the first batch, and from the first steps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from lightning_gradwatch.rules import LossHistory, Misuse, OffScale, Overwritten, Replaced, RuleSet
from lightning_gradwatch.rules.probe_reading import ProbeReading

FLAT = np.full(200, 2.3)
FALLING = np.geomspace(2.3, 0.2, 200)


def played(lab, rule_class, losses, first=None, now=None, size=3, **of):
    """`of`: by name of a field, a number per parameter or a function of the step."""
    history = LossHistory()
    rule = rule_class(history)
    rules = RuleSet({"rule": rule}, history)
    events, asked = [], 0
    for i, loss in enumerate(losses):
        if first is not None:
            rules.learn(ProbeReading(i, first=first, now=now if asked else None))
        fields = {name: value(i) if callable(value) else value for name, value in of.items()}
        arrays = {
            name: None if value is None else np.broadcast_to(np.array(value, dtype=float), size).copy()
            for name, value in fields.items()
            if name != "updates"
        }
        one = lab.snapshot(lab.stack(size), 1.0, updates=fields.get("updates"), step=i, loss=float(loss), **arrays)
        history.update(one.loss)
        events += rules.judge(one)
        asked += rules.wants_look
    again = rule_class(history)
    again.load_state_dict(lab.through_checkpoint(rule.state_dict()))
    assert again.state_dict() == rule.state_dict()
    return events


def kinds(events):
    return [(event.kind.value, event.severity.value, event.step) for event in events]


class TestOffScale:
    def test_a_loss_that_starts_and_stays_worse_than_a_blind_guess(self, lab):
        assert kinds(played(lab, OffScale, 20 * FLAT, {"excess": 20.0})) == [
            ("off_scale", "warning", 49),
            ("off_scale", "alarm", 99),
        ]

    def test_a_bad_start_that_is_over_within_a_window_is_none(self, lab):
        assert played(lab, OffScale, 20 * np.geomspace(2.3, 1e-5, 200), {"excess": 20.0}) == []

    def test_a_blind_guess_at_the_start_is_none(self, lab):
        assert played(lab, OffScale, FLAT, {"excess": 1.1, "input": 1.0, "target": 1.0, "answer": 0.5}) == []

    @pytest.mark.parametrize("first", [{"input": 300.0}, {"target": 4e3, "answer": 0.5}])
    def test_inputs_and_targets_two_orders_off(self, lab, first):
        (event,) = played(lab, OffScale, FALLING, first)
        assert (event.severity, event.step) == ("warning", 49)

    def test_answers_as_large_as_their_targets_are_fine(self, lab):
        assert played(lab, OffScale, FALLING, {"target": 4e3, "answer": 3e3}) == []

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    def test_it_does_not_depend_on_the_scale_of_the_loss(self, lab, scale):
        assert len(played(lab, OffScale, scale * 20 * FLAT, {"excess": 20.0})) == 2


class TestMisuse:
    def test_probabilities_for_logits_and_shapes_that_broadcast(self, lab):
        first = {"softmaxed": 1.0}
        assert kinds(played(lab, Misuse, FALLING, first)) == [("wrong_loss", "warning", 49)]
        (_, alarm) = played(lab, Misuse, FLAT, {"outer": 1.0})
        assert (alarm.severity, alarm.remedies[0].id) == ("alarm", "GW-36")

    def test_a_loss_that_has_converged_is_left_in_peace(self, lab):
        assert played(lab, Misuse, np.r_[[2.3] * 20, [0.01] * 180], {"softmaxed": 1.0}) == []

    def test_outputs_that_are_the_same_while_the_loss_is_at_its_start(self, lab):
        first = {"alike": 0.5, "apart": 1.0}
        (event,) = played(lab, Misuse, FLAT, first, now={"alike": 1e-6})
        assert (event.kind, event.severity, event.step) == ("same_output", "alarm", 100)
        assert played(lab, Misuse, FLAT, first, now={"alike": 0.4}) == []
        assert played(lab, Misuse, FALLING, first, now={"alike": 1e-6}) == []

    def test_outputs_that_were_the_same_from_the_start_are_looked_at_though_the_loss_falls(self, lab):
        (event,) = played(lab, Misuse, FALLING, {"alike": 0.0, "apart": 1.0}, now={"alike": 1e-7})
        assert kinds([event]) == [("same_output", "warning", 50)]
        assert played(lab, Misuse, FALLING, {"alike": 0.0, "apart": 1.0}, now={"alike": 0.3}) == []  # a last layer of 0
        assert played(lab, Misuse, FALLING, {"alike": 0.0, "apart": 0.0}, now={"alike": 0.0}) == []  # so are the inputs


class TestReplaced:
    def test_first_steps_that_replace_the_weights_before_a_plateau(self, lab):
        events = played(lab, Replaced, FLAT, updates=lambda i: 2.0 if i < 5 else 1e-3)
        assert kinds(events) == [("update_too_large", "warning", 10), ("update_too_large", "alarm", 99)]
        assert "replaced the initial weights of 3 of 3 matrices" in events[0].message

    def test_it_stays_a_warning_where_the_training_gets_on(self, lab):
        events = played(lab, Replaced, FALLING, updates=lambda i: 2.0 if i < 5 else 1e-3)
        assert [event.severity for event in events] == ["warning"]

    @pytest.mark.parametrize(("losses", "found"), [(FLAT, [("update_too_large", "alarm", 99)]), (FALLING, [])])
    def test_an_optimizer_that_finds_its_rate_gets_no_more_than_the_alarm(self, lab, losses, found):
        searching = partial(Replaced, finds_rate=True)
        assert kinds(played(lab, searching, losses, updates=lambda i: 2.0 if i < 5 else 1e-3)) == found

    @pytest.mark.parametrize("updates", [0.4, [0.9, 0.1, 0.1, 0.1]])
    def test_less_than_half_of_the_norm_and_less_than_a_third_of_the_matrices_are_none(self, lab, updates):
        size = 3 if isinstance(updates, float) else len(updates)
        assert played(lab, Replaced, FLAT, updates=updates, size=size) == []

    def test_weights_of_about_0_are_meant_to_be_replaced(self, lab):
        history = LossHistory()
        rules = RuleSet({"replaced": Replaced(history)}, history)
        steps = [lab.snapshot(lab.stack(3), 1.0, updates=2.0, weights=1e-3, step=i, loss=2.3) for i in range(200)]
        assert lab.play(rules, steps) == []


def every_tenth(value):
    return lambda i: value if i % 10 == 1 else None


class TestOverwritten:
    def test_steps_that_are_undone(self, lab):
        (event,) = played(lab, Overwritten, FLAT, undone=every_tenth([1.0, 1.0, 0.0]), moved_since=every_tenth(1.0))
        assert kinds([event]) == [("overwritten", "alarm", 51)]
        assert event.layers == ("net.0", "net.1")
        assert "100 % of each step is undone" in event.message

    def test_weights_that_somebody_moves_further_than_the_steps(self, lab):
        (event,) = played(lab, Overwritten, FLAT, undone=every_tenth(0.0), moved_since=every_tenth(40.0))
        assert "by 40 times the step itself" in event.message

    def test_what_does_not_keep_the_loss_from_falling_is_none(self, lab):
        assert played(lab, Overwritten, FALLING, undone=every_tenth(1.0), moved_since=every_tenth(1.0)) == []

    def test_a_projection_is_none(self, lab):
        assert played(lab, Overwritten, FLAT, undone=every_tenth(0.1), moved_since=every_tenth(0.4)) == []

    def test_two_exchanges_in_a_row_are_none(self, lab):
        undone = lambda i: (1.0 if i in (51, 61) else 0.0) if i % 10 == 1 else None  # noqa: E731
        assert played(lab, Overwritten, FLAT, undone=undone, moved_since=every_tenth(1.0)) == []
