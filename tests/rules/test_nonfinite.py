# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from lightning_gradwatch.rules import NonFinite

NAN, INF = math.nan, math.inf


def found(lab, norms, **kwargs):
    (event,) = NonFinite().judge(lab.snapshot(lab.stack(len(norms)), norms, step=9, **kwargs))
    return event


@pytest.mark.parametrize(
    ("norms", "finding", "cause"),
    [
        ([NAN] * 4, "NaN in all 4 layers", "the forward pass or the loss"),
        ([INF] * 4, "inf in all 4 layers", "the forward pass or the loss"),
        ([NAN, None, NAN], "NaN in all 2 layers", "the forward pass or the loss"),
        ([INF, NAN], "NaN in net.1, inf in net.0 (2 of 2 layers)", "the forward pass or the loss"),
        (
            [NAN, NAN, 1.0, 1.0],
            "NaN in net.0, net.1 (2 of 4 layers)",
            "the backward pass at net.1: all layers from there to the input are hit, none above",
        ),
        ([1.0, INF, 1.0], "inf in net.1 (1 of 3 layers)", "an operation inside net.1"),
        (
            [1.0] + [NAN] * 5,
            "NaN in net.1, net.2, net.3 and 2 more (5 of 6 layers)",
            "an operation inside net.1, net.2, net.3 and 2 more",
        ),
    ],
)
def test_the_pattern_over_depth_tells_where_it_was_made(lab, norms, finding, cause):
    event = found(lab, norms)
    assert event.message == finding
    assert event.cause == cause
    assert event.severity == "alarm"


def test_the_layers_at_fault_are_named(lab):
    assert found(lab, [1.0, NAN, INF]).layers == ("net.1", "net.2")


def test_a_loss_that_was_not_finite_is_evidence(lab):
    event = found(lab, [NAN, NAN], loss=NAN)
    assert event.message == "NaN in all 2 layers\nloss: NaN"
    assert event.cause == "the forward pass or the loss: the loss was not finite before the backward pass"


def test_a_loss_alone_finds_nothing_since_it_is_known_on_one_rank_only(lab):
    assert NonFinite().judge(lab.snapshot(lab.stack(2), 1.0, loss=NAN)) == []


def test_on_a_single_rank_a_loss_alone_is_a_warning_told_once(lab):
    rule, layout = NonFinite(alone=True), lab.stack(2)
    losses = [1.0, NAN, NAN, 1.0, INF] + [1.0] * 50 + [INF]
    events = [e for i, loss in enumerate(losses) for e in rule.judge(lab.snapshot(layout, 1.0, loss=loss, step=i))]
    assert lab.kinds(events) == [("nonfinite", "warning", 1), ("nonfinite", "warning", 55)]
    assert [event.message for event in events] == [
        "the loss is NaN, all gradients are finite",
        "the loss is inf, all gradients are finite",
    ]
    assert [event.remedies[0].id for event in events] == ["GW-10", "GW-10"]


def test_a_loss_alone_is_told_under_a_grad_scaler_too_and_once_where_the_gradients_are_bad_as_well(lab):
    rule, layout = NonFinite(alone=True), lab.stack(1)
    assert [e.severity for e in rule.judge(lab.snapshot(layout, 1.0, loss=NAN, loss_scale=1024.0))] == ["warning"]
    assert [e.severity for e in NonFinite(alone=True).judge(lab.snapshot(layout, NAN, loss=NAN))] == ["alarm"]


def test_huge_but_finite_is_not_inf(lab):
    assert NonFinite().judge(lab.snapshot(lab.stack(2), 1e150)) == []


def test_every_bad_step_is_an_event(lab):
    rule, layout = NonFinite(), lab.stack(1)
    events = [rule.judge(lab.snapshot(layout, [norm])) for norm in (1.0, NAN, NAN, 1.0, INF)]
    assert [len(found) for found in events] == [0, 1, 1, 0, 1]


def test_a_scaler_that_calibrates_is_counted_not_reported(lab):
    rule, layout = NonFinite(), lab.stack(1)
    scales = [2.0 ** (26 - i) for i in range(12)]
    assert not any(rule.judge(lab.snapshot(layout, [INF], loss_scale=scale)) for scale in scales)
    assert rule.overflows == 12
    assert rule.judge(lab.snapshot(layout, [1.0], loss_scale=2.0**14)) == []


def test_overflow_every_fifteen_steps_is_how_a_scaler_works(lab):
    rule, layout = NonFinite(), lab.stack(1)
    steps = (lab.snapshot(layout, [INF if i % 15 == 0 else 1.0], loss_scale=65536.0) for i in range(300))
    assert not any(rule.judge(step) for step in steps)


def test_a_scaler_that_skips_on_and_on_is_stuck_and_said_once(lab):
    rule, layout = NonFinite(), lab.stack(1)
    found = [event for i in range(30) for event in rule.judge(lab.snapshot(layout, [INF], loss_scale=4.0, step=i))]
    assert lab.kinds(found) == [("scaler_stuck", "alarm", 12)]


def test_a_scale_below_one_is_stuck_at_once(lab):
    rule, layout = NonFinite(), lab.stack(1)
    (event,) = rule.judge(lab.snapshot(layout, [INF], loss_scale=0.5))
    assert (event.message, event.value, event.limit) == ("the GradScaler's scale fell to 0.5", 0.5, 1.0)
    assert rule.judge(lab.snapshot(layout, [1.0], loss_scale=0.5)) == []
    rule.judge(lab.snapshot(layout, [1.0], loss_scale=1.0))
    assert len(rule.judge(lab.snapshot(layout, [INF], loss_scale=0.25))) == 1
