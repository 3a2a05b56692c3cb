# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import math

import numpy as np
import pytest

from lightning_gradwatch.events import Remedy
from lightning_gradwatch.rules.remedies import remedies
from lightning_gradwatch.tensorboard.advice import CODE
from lightning_gradwatch.tensorboard.queries import events, health, layers, timeline
from lightning_gradwatch.tensorboard.records import RunHistory

ALL = (-math.inf, math.inf)


def unpack(text, kind="<f8"):
    return np.frombuffer(base64.b64decode(text), kind).tolist()


@pytest.fixture
def with_events(tmp_path, write, read, writer, event):
    """A history of 10,000 steps with these events."""

    def make(*given):
        write(tmp_path, np.ones((101, 2)), every=100)
        with writer(tmp_path) as file:
            for step, severity, fields in given:
                file.add_summary(RunHistory().event(step, event(step=step, severity=severity, **fields)), step)
        return read(tmp_path)

    return make


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ([], "healthy"),
        ([(9500, "info")], "healthy"),
        ([(9500, "warning")], "warning"),
        ([(9500, "alarm"), (9600, "warning")], "alarm"),
        ([(500, "alarm")], "quiet"),
        ([(500, "alarm"), (9600, "warning")], "warning"),
    ],
)
def test_the_state_is_the_worst_of_late(with_events, given, state):
    assert health(with_events(*[(step, severity, {}) for step, severity in given]))["state"] == state


@pytest.mark.parametrize("kind", ["dead", "vanishing", "disconnected", "stalled"])
def test_what_is_told_once_and_lasts_is_never_taken_for_over(with_events, kind):
    assert health(with_events((500, "alarm", {"kind": kind})))["state"] == "alarm"


@pytest.mark.parametrize(("severity", "state"), [("warning", "held"), ("info", "held")])
def test_a_run_that_our_callbacks_hold_up_is_not_healthy(with_events, severity, state):
    assert health(with_events((9_900, severity, {"kind": "held"})))["state"] == state
    assert health(with_events((9_900, severity, {"kind": "held"}), (9_950, "alarm", {})))["state"] == "alarm"


@pytest.mark.parametrize(("factor", "state"), [(0.5, "held"), (1.0, "healthy")])
def test_a_run_whose_gradients_are_clipped_often_is_not_healthy(tmp_path, writer, read, factor, state):
    recorder, norms = RunHistory(), np.ones(2)
    with writer(tmp_path) as file:
        for step in range(100):
            applied = factor if step % 5 == 0 else 1.0
            row = recorder.add(step, ["a", "b"], norms, total=1.4, total_clipped=1.4 * applied, factor=applied)
            file.add_summary(row, step)
    assert health(read(tmp_path))["state"] == state


def test_health_counts_by_kind_and_knows_the_last_alarm(with_events):
    found = health(
        with_events(
            (100, "alarm", {"kind": "spike"}),
            (200, "alarm", {"kind": "spike"}),
            (300, "info", {"kind": "spike"}),  # explains the one before, and is no further one
            (300, "info", {"kind": "level_shift"}),
        )
    )
    assert found["counts"] == {"spike": 2, "level_shift": 1}
    assert found["severities"] == {"alarm": 2, "info": 2}
    assert found["last_alarm"] == 200
    assert (found["first_step"], found["last_step"], found["logged"], found["layers"]) == (0, 10_000, 101, 2)


def test_an_event_after_the_last_logged_step_is_within_the_run(with_events):
    assert health(with_events((10_049, "alarm", {})))["last_step"] == 10_049


def test_an_event_before_the_first_logged_step_shows(tmp_path, read, writer, event):
    with writer(tmp_path) as file:
        file.add_summary(RunHistory().event(0, event(severity="alarm")), 0)
    history = read(tmp_path)
    assert health(history)["state"] == "alarm"
    assert layers(history)["layers"] == []
    assert unpack(timeline(history, ALL, 10)["steps"]) == []


def test_the_timeline_is_thinned_but_keeps_ends_spike_dip_and_nan(tmp_path, write, read):
    norms = np.random.default_rng(0).uniform(1, 2, size=(5000, 1))
    norms[[1234, 2345, 3456]] = [[9e9], [1e-9], [math.nan]]
    write(tmp_path, norms)
    steps = unpack(timeline(read(tmp_path), ALL, 100)["steps"])
    assert {0, 1234, 2345, 3456, 4999} <= set(steps)
    assert len(steps) <= 100


def test_the_timeline_of_a_stretch_has_each_logged_step_and_what_was_not_given_is_nan(tmp_path, write, read):
    write(tmp_path, np.ones((5000, 1)), limit=3.0)
    answer = timeline(read(tmp_path), (10, 14), 100)
    assert unpack(answer["steps"]) == [10, 11, 12, 13, 14]
    assert unpack(answer["limit"]) == [3.0] * 5
    assert all(map(math.isnan, unpack(answer["max_abs"])))


def test_the_table_has_now_typical_largest_and_share(tmp_path, write, read):
    write(tmp_path, [[1.0, 0.0], [9.0, math.nan], [3.0, 4.0]])
    answer = layers(read(tmp_path))
    assert unpack(answer["norm"], "<f4") == [3.0, 4.0]
    assert unpack(answer["typical"], "<f4") == [3.0, 0.0]
    assert unpack(answer["peak"], "<f4")[0] == 9.0
    assert math.isnan(unpack(answer["peak"], "<f4")[1])
    assert unpack(answer["share"]) == [0.36, 0.64]
    assert unpack(answer["nonfinite"], "<f4") == [0.0, 1.0]
    assert unpack(answer["ratio"], "<f4") == [-1.0, -1.0]


def test_the_table_counts_the_events_that_name_a_layer(with_events):
    history = with_events((1, "info", {"layers": ("net.1",)}), (2, "info", {"layers": ("net.0", "net.1")}))
    assert layers(history)["events"] == [1, 2]


def test_events_come_newest_last_with_a_line_of_code_where_there_is_one(with_events):
    given = [
        (1, "info", {}),
        (2, "info", {"remedies": (Remedy("GW-13", "bf16", ""),)}),
        (3, "info", {"remedies": (Remedy("X", "", ""),)}),
    ]
    answer = events(with_events(*given), 2)
    assert answer["count"] == 3
    assert [event["code"] for event in answer["events"]] == [CODE["GW-13"], ""]


def test_every_line_of_code_belongs_to_a_remedy_and_is_python():
    known = {remedy.id for row in range(1, 29) for remedy in remedies(row)}
    assert set(CODE) <= known
    for line in CODE.values():
        compile(line, "advice", "exec")
