# SPDX-License-Identifier: Apache-2.0
"""What holds for every run, whatever its gradients and losses are."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_gradwatch.events import EventKind, Severity
from lightning_gradwatch.rules import explosion_rules, vanishing_rules

BAD = (nan, inf, None, 0.0, 1e30, 1e-30)
NORM = st.floats(1e-6, 1e6) | st.sampled_from(BAD)
LOSS = st.none() | st.floats(-1e6, 1e6) | st.sampled_from((nan, inf, -inf))
RUN = st.lists(st.tuples(st.lists(NORM, min_size=3, max_size=3), LOSS), min_size=1, max_size=40)
FEW = settings(max_examples=60)


def both():
    return (
        explosion_rules(max_norm=50.0, warmup_steps=3, window=10, patience=1),
        vanishing_rules(dead_steps=4, window=10, patience=1),
    )


def snapshots(lab, run):
    layout = lab.stack(3)
    return [lab.snapshot(layout, norms, step=i, loss=loss, updates=1e-3) for i, (norms, loss) in enumerate(run)]


@FEW
@given(RUN)
def test_rules_never_raise_and_every_event_is_whole(lab, run):
    for rules in both():
        for event in lab.play(rules, snapshots(lab, run)):
            assert isinstance(event.kind, EventKind)
            assert isinstance(event.severity, Severity)
            assert 0 <= event.step < len(run)
            assert set(event.layers) <= {"net.0", "net.1", "net.2"}
            assert event.message
            assert len(event.remedies) <= 3
            assert str(event).startswith(f"[gradwatch] {event.severity.value.upper()} {event.kind.value}")


@FEW
@given(RUN, st.integers(0, 40))
def test_rules_that_go_on_from_a_checkpoint_find_the_same(lab, run, cut):
    steps = snapshots(lab, run)
    for whole, first, second in zip(both(), both(), both(), strict=True):
        found = lab.play(first, steps[:cut])
        second.load_state_dict(lab.through_checkpoint(first.state_dict()))
        assert repr(found + lab.play(second, steps[cut:])) == repr(lab.play(whole, steps))
        assert repr(second.state_dict()) == repr(whole.state_dict())


@FEW
@given(RUN)
def test_a_gradient_that_is_not_finite_is_always_found(lab, run):
    steps = snapshots(lab, run)
    found = {event.step for event in lab.play(both()[0], steps) if event.kind == "nonfinite"}
    assert found >= {step.step for step in steps if not step.total < inf}  # a loss that is not finite is found too


@FEW
@given(st.lists(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3), min_size=1, max_size=40), st.integers(-60, 60))
def test_no_verdict_depends_on_the_scale_of_the_loss(lab, run, power):
    steps = snapshots(lab, [(norms, None) for norms in run])
    scaled = [replace(step, norms=step.norms * 2.0**power) for step in steps]
    for make in (explosion_rules, vanishing_rules):
        assert lab.kinds(lab.play(make(), steps)) == lab.kinds(lab.play(make(), scaled))
