# SPDX-License-Identifier: Apache-2.0
"""The rules that judge looks: through time, and saturated units."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from lightning_gradwatch.rules import ExplodingInTime, LossHistory, ProbeReading, RuleSet, Saturated, VanishingInTime
from lightning_gradwatch.rules.saturated import gains
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo

LAYOUT = ParameterInfo(("rnn.weight", "head.weight"), ((4, 4), (4, 4)))
FLAT = [2.3] * 200
FALLING = np.geomspace(2.3, 0.5, 200).tolist()


def snapshot(step, weight=2.0):
    """Two 4 x 4 matrices of the given norm; 2 is a gain of 1."""
    return GradientSnapshot(LAYOUT, np.ones(2), np.ones(2, bool), weight_norms=np.full(2, weight), step=step)


def played(make, looks, losses, weight=2.0, through=None):
    """Events of steps with a look at every tenth: `looks(i)` are its contents, or None."""
    history = LossHistory()
    rules = RuleSet({"rule": make(history)}, history)
    events, asked = [], []
    for i, loss in enumerate(losses):
        if i == through:
            state = rules.state_dict()
            history = LossHistory()
            rules = RuleSet({"rule": make(history)}, history)
            rules.load_state_dict(state)
        look = looks(i, rules.wants_look)
        rules.learn(look)
        rules.learn(look)  # as with two steps of one batch
        rules.losses.update(loss)
        events += rules.judge(snapshot(i, weight))
        asked += [i] if rules.wants_look else []
    return events, asked


def time(value):
    return lambda i, wanted: ProbeReading(i, {"rnn": value(i) if callable(value) else value}) if i % 10 == 1 else None


@pytest.mark.parametrize(
    ("rule", "value", "kind", "step", "verb", "remedy"),
    [
        (VanishingInTime, -8.0, "vanishing_in_time", 99, "shrinks x1e-8", "GW-03"),
        (ExplodingInTime, 8.0, "explosion", 49, "grows x1e8", "GW-04"),
    ],
)
def test_a_lasting_profile_without_progress_is_one_alarm(rule, value, kind, step, verb, remedy):
    (event,), _ = played(rule, time(value), FLAT)
    assert event.remedies[0].id == remedy
    assert (event.kind, event.severity, event.step, event.layers) == (kind, "alarm", step, ("rnn",))
    assert event.message.startswith(
        f"gradient through time {verb} from the last tenth of the sequence to the first in rnn"
    )
    assert played(rule, time(value), FALLING)[0] == []
    assert [e.severity for e in played(rule, time(value), [None] * 200)[0]] == ["warning"]
    assert played(rule, time(-value), FLAT)[0] == []
    assert played(rule, time(value * 0.7), FLAT)[0] == []


def test_one_look_that_is_not_so_bad_is_enough_to_wait_for_a_window():
    (event,), _ = played(VanishingInTime, time(lambda i: -5.0 if i == 91 else -9.0), FLAT)
    assert event.step == 141  # the look at step 91 has left the window


@pytest.mark.parametrize(("at", "found"), [((91, 96), 0), ((91, 96, 99), 1)])
def test_three_looks_within_a_window_make_a_verdict(at, found):
    events, _ = played(VanishingInTime, lambda i, wanted: ProbeReading(i, {"rnn": -8.0}) if i in at else None, FLAT)
    assert len(events) == found


@pytest.mark.parametrize("unknown", [nan, inf, -inf])
def test_looks_without_a_number_say_nothing(unknown):
    assert played(VanishingInTime, time(unknown), FLAT)[0] == []


def test_layers_of_another_optimizer_are_not_judged():
    assert played(VanishingInTime, lambda i, wanted: ProbeReading(i, {"other": -9.0}), FLAT)[0] == []


def full(share):
    """A look wherever it was asked for at the step before."""
    return lambda i, wanted: (
        ProbeReading(i, {}, {"rnn": share, "head": 0.1} if share is not None else {}) if wanted else None
    )


def test_saturation_without_progress_is_an_alarm_after_six_looks():
    (event,), asked = played(Saturated, full(0.95), FLAT)
    assert (event.kind, event.severity, event.layers, event.value) == ("saturated", "alarm", ("rnn",), 0.95)
    assert event.message.splitlines()[0] == "95 % of the outputs saturated for 25 steps after rnn"
    assert asked[0] == 49  # the end of the first window
    assert event.step == 75
    assert len(asked) <= 10


def test_a_training_that_improves_is_never_looked_at():
    assert played(Saturated, full(1.0), FALLING) == ([], [])
    assert played(Saturated, full(1.0), [None] * 200) == ([], [])


def test_weights_far_too_large_are_a_reason_to_look_and_a_warning_while_it_improves():
    # A norm of 20 is a gain of 10. 77 % is enough with those.
    (event,), _ = played(Saturated, full(0.77), FALLING, weight=20.0)
    assert event.severity == "warning"
    assert played(Saturated, full(0.77), FLAT)[0] == []


def test_a_gain_up_to_four_is_no_reason_to_look():
    # A norm of 8 is a gain of 4.
    assert played(Saturated, full(0.95), FALLING, weight=7.9) == ([], [])
    assert len(played(Saturated, full(0.95), FALLING, weight=8.1)[0]) == 1


@pytest.mark.parametrize(("share", "found"), [(0.69, 0), (0.71, 1)])
def test_with_weights_far_too_large_seven_outputs_in_ten_must_be_saturated(share, found):
    assert len(played(Saturated, full(share), FALLING, weight=20.0)[0]) == found


def test_a_model_without_such_units_is_looked_at_once():
    assert played(Saturated, full(None), FLAT) == ([], [49])


def test_units_that_recover_are_not_reported():
    events, asked = played(
        Saturated, lambda i, wanted: ProbeReading(i, {}, {"rnn": 0.95 if i < 70 else 0.5}) if wanted else None, FLAT
    )
    assert events == []
    assert asked == [49, 54, 59, 64, 69, 99, 149, 199]


@pytest.mark.parametrize(("between", "events"), [(0.75, 1), (0.65, 2)])
def test_saturation_is_told_again_only_after_all_units_were_well_below_the_share(between, events):
    def looks(i, wanted):
        return ProbeReading(i, {}, {"rnn": between if 80 < i <= 200 else 0.95}) if wanted else None

    assert len(played(Saturated, looks, FLAT * 2)[0]) == events


@pytest.mark.parametrize(("rule", "looks"), [(VanishingInTime, time(-8.0)), (Saturated, full(0.95))])
@pytest.mark.parametrize("at", [55, 85, 130])
def test_a_memory_that_is_saved_goes_on_as_if_nothing_had_been(rule, looks, at):
    assert played(rule, looks, FLAT, through=at) == played(rule, looks, FLAT)


def test_the_gain_of_standard_normal_weights_is_the_root_of_their_inputs():
    layout = ParameterInfo(("net.weight", "net.bias"), ((8, 64), (8,)))
    norms = np.array([np.sqrt(8 * 64.0), 1.0])
    one = GradientSnapshot(layout, np.ones(2), np.ones(2, bool), weight_norms=norms)
    assert gains(one)["net"] == pytest.approx((8.0, 1.0))
    assert gains(GradientSnapshot(layout, np.ones(2), np.ones(2, bool))) == {}
