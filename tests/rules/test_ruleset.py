# SPDX-License-Identifier: Apache-2.0
"""All rules together: silent on healthy runs, scale-free, and unmoved by a checkpoint."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_gradwatch import ExplosionDetector, VanishingDetector
from lightning_gradwatch.events import EventKind
from lightning_gradwatch.rules import RuleSet, explosion_rules, vanishing_rules
from lightning_gradwatch.rules.probe_reading import ProbeReading, ProbeRule
from lightning_gradwatch.snapshot import ParameterInfo

NAN, INF = math.nan, math.inf
STEPS = 300
RNG = np.random.default_rng(0)
NOISE = np.exp(0.3 * RNG.normal(size=(STEPS, 6)))
FALLING = np.geomspace(2.3, 0.1, STEPS)
FLAT = 2.3 + 0.05 * RNG.normal(size=STEPS)


def column(i, value):
    """The noise with one of the six columns replaced."""
    norms = NOISE.copy()
    norms[:, i] = value
    return norms


def run(lab, norms=NOISE, losses=FLAT, updates=1e-3, rates=None, weights=2.0, present=None):
    """A run of six layers; arrays are [steps, 6], [steps] or the same for all."""
    layout = lab.stack(6)
    rates = np.full(STEPS, 1e-3) if rates is None else rates
    present = np.ones((STEPS, 6), dtype=bool) if present is None else present
    weights, updates = np.broadcast_to(weights, (STEPS, 6)), np.broadcast_to(updates, (STEPS, 6))
    rows = zip(norms * present, present, weights, updates, rates.tolist(), losses.tolist(), strict=True)
    return [
        lab.snapshot(layout, norm, present=there, weights=weight, updates=update, lr=lr, loss=loss, step=i)
        for i, (norm, there, weight, update, lr, loss) in enumerate(rows)
    ]


def one_in(n):
    """[steps, 6]: True at every n-th step."""
    return np.repeat(np.arange(STEPS)[:, None] % n == 0, 6, axis=1)


STEP = np.arange(STEPS)
HEALTHY = {
    "learning": {"losses": FALLING},
    "a plateau": {},
    "converged": {"norms": NOISE * 1e-6, "losses": np.r_[FALLING[:50], np.full(250, 1e-3)], "updates": 1e-8},
    "warm-up": {"rates": np.linspace(1e-7, 1e-3, STEPS), "updates": np.geomspace(1e-9, 1e-4, STEPS)[:, None]},
    "hinge": {"norms": NOISE * one_in(7), "losses": np.where(STEP % 7 == 0, 1.0, 0.0)},
    "zero-initialised branches": {
        "norms": np.where((STEP[:, None] == 0) & (np.arange(6) % 2 == 0), 0.0, NOISE),
        "weights": np.where(np.arange(6) % 2 == 0, 2.0, np.minimum(1e-2 * STEP[:, None], 2.0)),
        "updates": np.where(np.arange(6) % 2 == 0, 1e-3, 1 / np.maximum(STEP[:, None] - 1, 1)),
    },
    "LoRA": {
        "norms": np.where((STEP[:, None] == 0) & (np.arange(6) < 3), 0.0, NOISE),
        "weights": np.where(np.arange(6) < 3, 2.0, 1e-3 * STEP[:, None]),
        "updates": np.where(np.arange(6) < 3, 1e-3, 1 / np.maximum(STEP[:, None] - 1, 1)),
    },
    "an expert that is idle most of the time": {"norms": column(3, np.where(STEP % 40 == 0, 1.0, 0.0))},
    "unfrozen at 150": {"present": np.where(np.arange(6) < 3, STEP[:, None] >= 150, True), "losses": FALLING},
    "frozen at 150": {"present": np.where(np.arange(6) < 3, STEP[:, None] < 150, True)},
    "cyclic learning rate": {
        "rates": 1e-3 * (0.501 + 0.5 * np.cos(STEP / 8)),
        "updates": 1e-3 * (0.501 + 0.5 * np.cos(STEP / 8))[:, None],
    },
    "a norm that falls by six decades": {"norms": NOISE * np.geomspace(1, 1e-6, STEPS)[:, None], "losses": FALLING},
    "half of the steps without gradients": {"present": one_in(2)},
}
NO_ALARM = {
    "a level shift": {"norms": NOISE * np.where(STEP < 150, 1.0, 12.0)[:, None]},
    "an outlier": {"norms": NOISE * np.where(STEP == 200, 500.0, 1.0)[:, None]},
    "an idle expert": {"norms": column(3, 0.0)},
    "an unused head": {"present": np.broadcast_to(np.arange(6) < 5, (STEPS, 6))},
}


@pytest.mark.parametrize("case", HEALTHY)
def test_healthy_runs_are_silent(lab, case):
    events = lab.play_both(run(lab, **HEALTHY[case]))
    assert [event for event in events if event.kind != "disconnected"] == []
    assert bool(events) is (case == "unfrozen at 150")  # which needs a snapshot without the frozen parameters


@pytest.mark.parametrize("case", NO_ALARM)
def test_harmless_surprises_are_told_without_an_alarm(lab, case):
    events = lab.play_both(run(lab, **NO_ALARM[case]))
    assert events
    assert not [event for event in events if event.severity == "alarm"]


SICK = {
    "nonfinite": {"norms": np.where((STEP == 70)[:, None], NAN, NOISE)},
    "spike": {"norms": NOISE * np.where(STEP == 200, 1e6, 1.0)[:, None]},
    "explosion": {"norms": NOISE * np.exp(0.1 * STEP)[:, None], "losses": 2 * np.exp(0.02 * STEP)},
    "update_too_large": {"updates": np.where(STEP < 100, 1e-3, 0.9)[:, None]},
    "vanishing": {"norms": NOISE * 0.1 ** np.arange(5, -1, -1)},
    "stalled": {"updates": 1e-9},
    "dead": {"norms": column(0, 0.0)},
    "disconnected": {"present": np.broadcast_to(np.arange(6) > 0, (STEPS, 6))},
    "not_updated": {"updates": np.where(np.arange(6) > 0, 1e-3, 0.0)},
}


@pytest.mark.parametrize("kind", SICK)
def test_sick_runs_get_an_alarm_of_the_right_kind_and_of_no_other(lab, kind):
    alarms = [event.kind.value for event in lab.play_both(run(lab, **SICK[kind])) if event.severity == "alarm"]
    assert set(alarms) == {kind}


def test_ignored_kinds_are_dropped_and_the_others_kept(lab):
    steps = run(
        lab,
        norms=NOISE * np.where(np.isin(STEP, [100, 200]), 1e6, 1.0)[:, None] * np.where(STEP == 70, NAN, 1)[:, None],
    )
    assert {event.kind for event in lab.play(explosion_rules(), steps)} == {EventKind.NONFINITE, EventKind.SPIKE}
    assert {event.kind for event in lab.play(explosion_rules(ignore=["spike"]), steps)} == {EventKind.NONFINITE}
    with pytest.raises(ValueError, match="spikes"):
        explosion_rules(ignore=["spikes"])


DOCUMENTED = {
    explosion_rules: (
        ExplosionDetector,
        {
            "max_norm": None,
            "max_abs": None,
            "patience": 1,
            "window": 50,
            "warmup_steps": 20,
            "spike_factor": 10.0,
            "spike_z": 6.0,
            "growth_factor": 30.0,
            "max_update_ratio": 0.5,
            "ignore": (),
        },
    ),
    vanishing_rules: (
        VanishingDetector,
        {
            "min_norm": None,
            "patience": 1,
            "window": 50,
            "depth_ratio": 1e-3,
            "stall_ratio": 1e-6,
            "dead_steps": 50,
            "ignore": (),
        },
    ),
}


def defaults(of):
    return {name: parameter.default for name, parameter in inspect.signature(of).parameters.items()}


@pytest.mark.parametrize("make", DOCUMENTED)
def test_rules_in_a_plain_loop_start_from_the_numbers_that_the_callbacks_are_documented_with(make):
    callback, documented = DOCUMENTED[make]
    own = {
        name: value for name, value in defaults(make).items() if name not in ("reduce", "rivals", "finds_rate", "own")
    }
    assert own == documented
    assert {name: defaults(callback)[name] for name in documented} == documented


def test_only_the_rules_against_explosion_have_a_spike_limit():
    assert explosion_rules().spike is not None
    assert vanishing_rules().spike is None


def scaled(lab, steps, power):
    unit = 2.0**power
    return [
        lab.snapshot(
            step.layout,
            step.norms * unit,
            present=step.present,
            weights=step.weight_norms,
            updates=step.update_ratios,
            lr=step.lr,
            loss=None if step.loss is None else step.loss * unit,
            step=step.step,
        )
        for step in steps
    ]


def verdicts(events):
    """All of an event that must not depend on the unit."""
    return [
        (e.kind, e.severity, e.step, e.layers, e.value / e.limit if e.limit else e.value, e.cause is None)
        for e in events
    ]


@pytest.mark.parametrize("power", [-60, 1, 60])
@pytest.mark.parametrize("case", [*SICK, *NO_ALARM])
def test_verdicts_do_not_depend_on_the_unit_of_the_loss(lab, case, power):
    steps = run(lab, **{**SICK, **NO_ALARM}[case])
    assert verdicts(lab.play_both(steps)) == verdicts(lab.play_both(scaled(lab, steps, power)))


NORM = st.one_of(st.floats(1e-3, 1e3), st.sampled_from([0.0, NAN, INF, 1e-9, 1e9]))
RATIO = st.one_of(st.floats(1e-4, 1.0), st.sampled_from([0.0, NAN, 1e-9, 20.0]))
ROW = st.tuples(st.lists(NORM, min_size=4, max_size=4), st.lists(RATIO, min_size=4, max_size=4), st.floats(-1, 5))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=6), power=st.integers(-80, 80), order=st.randoms(use_true_random=False))
def test_no_sequence_depends_on_the_unit_or_breaks_a_rule(lab, rows, power, order):
    layout = lab.stack(4)
    picked = [order.choice(rows) for _ in range(60)]
    steps = [
        lab.snapshot(layout, norms, updates=ratios, loss=loss, step=i) for i, (norms, ratios, loss) in enumerate(picked)
    ]
    for rules in (lambda: explosion_rules(warmup_steps=4, window=6), lambda: vanishing_rules(dead_steps=4, window=6)):
        assert verdicts(lab.play(rules(), steps)) == verdicts(lab.play(rules(), scaled(lab, steps, power)))


@pytest.mark.parametrize("at", [3, 57, 120, 201])
@pytest.mark.parametrize("case", [*SICK, *NO_ALARM])
def test_a_checkpoint_in_the_middle_changes_no_later_event(lab, case, at):
    steps = run(lab, **{**SICK, **NO_ALARM}[case])
    for make in (explosion_rules, vanishing_rules):
        whole, first, second = make(), make(), make()
        expected = lab.play(whole, steps)
        before = lab.play(first, steps[:at])
        second.load_state_dict(lab.through_checkpoint(first.state_dict()))
        # A new process has a new layout with the same names.
        after = lab.play(
            second,
            [
                lab.snapshot(
                    lab.stack(6),
                    s.norms,
                    present=s.present,
                    weights=s.weight_norms,
                    updates=s.update_ratios,
                    lr=s.lr,
                    loss=s.loss,
                    step=s.step,
                )
                for s in steps[at : at + 1]
            ],
        )
        after += lab.play(second, steps[at + 1 :])
        assert before + after == expected


def test_memory_follows_names_when_parameters_come_and_go(lab):
    rules = vanishing_rules()
    few = ParameterInfo(("b.weight", "c.weight"), ((4, 4), (4, 4)))
    more = ParameterInfo(("a.weight", "b.weight", "c.weight"), ((4, 4),) * 3)
    steps = [lab.snapshot(few, [1.0, 0.0], step=i) for i in range(30)]
    steps += [lab.snapshot(more, [1.0, 1.0, 0.0], step=i) for i in range(30, 60)]
    events = lab.play(rules, steps)
    assert [(event.kind.value, event.step, event.layers) for event in events] == [("dead", 49, ("c",))]


class Failing(ProbeRule):
    """A rule that learns from looks, and fails at both."""

    def learn(self, look):
        raise RuntimeError("no look")

    def judge(self, snapshot):
        raise RuntimeError("no verdict")

    def state_dict(self):
        return {}

    def load_state_dict(self, state): ...


def failing():
    whole = explosion_rules()
    return RuleSet({"failing": Failing(), **whole.rules}, whole.losses)


def test_a_rule_that_fails_is_named_and_the_others_go_on(lab):
    rules, whole, failures = failing(), lab.snapshot(lab.stack(1), [NAN]), []
    rules.learn(ProbeReading(0, {}, None), lambda *failure: failures.append(failure))
    found = [name for name, _ in rules.findings(whole, whole, lambda *failure: failures.append(failure))]
    assert [(rule, str(error)) for rule, error in failures] == [("failing", "no look"), ("failing", "no verdict")]
    assert found == ["nonfinite"]


def test_in_a_plain_loop_what_a_rule_raises_is_raised(lab):
    rules = failing()
    with pytest.raises(RuntimeError, match="no verdict"):
        rules.judge(lab.snapshot(lab.stack(1), [1.0]))
    with pytest.raises(RuntimeError, match="no look"):
        rules.learn(ProbeReading(0, {}, None))


def test_a_state_without_a_rule_starts_that_rule_afresh(lab):
    state = explosion_rules().state_dict()
    del state["rules"]["growth"]
    rules = explosion_rules()
    rules.load_state_dict(state)
    assert lab.play(rules, run(lab)[:5]) == []
