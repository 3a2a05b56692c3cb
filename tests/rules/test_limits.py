# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from lightning_gradwatch.rules import AbsoluteLimits


def fired(lab, norms, layout=None, **kwargs):
    rule = AbsoluteLimits(**kwargs)
    layout = layout or lab.stack(1)
    return [len(rule.judge(lab.snapshot(layout, [norm], max_abs=norm))) for norm in norms]


def test_each_step_beyond_a_limit_is_an_event_and_the_limit_itself_is_not(lab):
    assert fired(lab, [1.0, 2.0, 2.1, 3.0, 1.0], max_norm=2.0) == [0, 0, 1, 1, 0]
    assert fired(lab, [1.0, 2.0, 2.1, 3.0, 1.0], max_abs=2.0) == [0, 0, 1, 1, 0]
    assert fired(lab, [1.0, 2.0, 2.1, 1.9, 0.0], min_norm=2.0) == [1, 0, 0, 1, 1]


def test_patience_counts_consecutive_steps(lab):
    assert fired(lab, [3, 3, 1, 3, 3, 3, 3], max_norm=2.0, patience=3) == [0, 0, 0, 0, 0, 1, 1]


def test_steps_that_are_not_finite_neither_fire_nor_count_nor_reset(lab):
    assert fired(lab, [3, 3, math.nan, 3, math.inf], max_norm=2.0, patience=3) == [0, 0, 0, 1, 0]
    assert fired(lab, [math.nan, math.inf], max_norm=2.0, min_norm=1.0) == [0, 0]


def test_a_step_without_any_gradient_is_not_small(lab):
    assert fired(lab, [None], min_norm=1.0) == [0]


@pytest.mark.parametrize(
    ("kwargs", "remedy"), [({"max_norm": 2.0}, "GW-07"), ({"max_abs": 2.0}, "GW-07"), ({"min_norm": 4.0}, "GW-01")]
)
def test_too_much_gets_the_advice_for_growth_and_too_little_that_for_depth(lab, kwargs, remedy):
    (event,) = AbsoluteLimits(**kwargs).judge(lab.snapshot(lab.stack(1), [3.0], max_abs=3.0))
    assert event.remedies[0].id == remedy


def test_an_entry_that_was_not_measured_breaks_nothing(lab):
    assert AbsoluteLimits(max_abs=1.0).judge(lab.snapshot(lab.stack(1), [5.0])) == []


def test_norm_and_entry_are_two_findings(lab):
    assert fired(lab, [3.0], max_norm=2.0, max_abs=1.0) == [2]


@pytest.mark.parametrize(
    ("kwargs", "norms", "kind", "layers", "message"),
    [
        (
            {"max_norm": 62},
            [3.0e4, 9.0e3, 0.0],
            "explosion",
            ("net.0", "net.1"),
            "grad norm 3.1e4, limit 62 (max_norm)\nwhere: net.0 92 %, net.1 8 %",
        ),
        (
            {"max_abs": 2},
            [3.0, 0.0, 0.0],
            "explosion",
            ("net.0",),
            "largest entry 2.5, limit 2 (max_abs)\nwhere: net.0 100 %",
        ),
        (
            {"min_norm": 1},
            [0.0, 0.6, 0.3],
            "vanishing",
            ("net.0", "net.2", "net.1"),
            "grad norm 0.67, limit 1 (min_norm)\nwhere: net.1 80 %, net.2 20 %",
        ),
        ({"min_norm": 1}, [0.0, 0.0, 0.0], "vanishing", ("net.0", "net.1", "net.2"), "grad norm 0, limit 1 (min_norm)"),
    ],
)
def test_the_event_holds_value_limit_and_place(lab, kwargs, norms, kind, layers, message):
    (event,) = AbsoluteLimits(**kwargs).judge(lab.snapshot(lab.stack(3), norms, max_abs=2.5))
    assert (event.kind, event.severity, event.layers, event.message) == (kind, "alarm", layers, message)
    assert event.limit == next(iter(kwargs.values()))
