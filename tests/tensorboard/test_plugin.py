# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from werkzeug import Request
from werkzeug.test import Client

from lightning_gradwatch.tensorboard.plugin import GradWatchPlugin

ROUTES = ["timeline", "heatmap", "curve", "profile", "events", "layers"]


class Provider:
    """The data provider, as far as the plugin asks it."""

    def __init__(self, *runs):
        self.runs = runs

    def list_tensors(self, _, *, experiment_id, plugin_name):
        assert plugin_name == "gradwatch"
        return {run: {"gradwatch/opt0/steps": None} for run in self.runs}


def serve(logdir, *runs):
    apps = GradWatchPlugin(SimpleNamespace(logdir=str(logdir), data_provider=Provider(*runs))).get_plugin_apps()
    return Client(lambda environ, start: apps[Request(environ).path](environ, start))


@pytest.fixture
def client(tmp_path, write):
    write(tmp_path / "a b", np.arange(1.0, 41.0).reshape(20, 2))
    return serve(tmp_path, "a b")


def ask(client, route, code=200, **parameters):
    response = client.get(f"/{route}", query_string={"run": "a b", **parameters})
    assert response.status_code == code, response.text
    assert response.mimetype == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    return json.loads(response.text)


def test_runs_are_listed_with_their_health(client):
    (run,) = ask(client, "runs")["runs"]
    assert (run["run"], run["loading"], run["problems"]) == ("a b", False, [])
    assert run["optimizers"][0]["state"] == "healthy"


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_answers_in_strict_json(client, route):
    text = client.get(f"/{route}", query_string={"run": "a b", "layer": "net.0"}).text
    json.loads(text, parse_constant=pytest.fail)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("run", ["", "b", "..", "../a b", "/etc", "a b/../a b", "%2e%2e", "a b\x00"])
def test_a_run_that_tensorboard_does_not_list_is_not_found_whatever_its_name(client, route, run):
    assert "There is no run" in ask(client, route, 404, run=run)["error"]


@pytest.mark.parametrize(
    ("route", "parameters", "code", "reason"),
    [
        ("heatmap", {"value": "colour"}, 400, "`value` must be one of norm, ratio, nonfinite, got 'colour'."),
        ("heatmap", {"rows": "many"}, 400, "`rows` must be a whole number, got 'many'."),
        ("heatmap", {"columns": "0"}, 400, "`columns` must be at least 1, got 0."),
        ("heatmap", {"first": "nan"}, 400, "`first` must be a step, got 'nan'."),
        ("timeline", {"last": "soon"}, 400, "`last` must be a step, got 'soon'."),
        ("timeline", {"points": "-3"}, 400, "`points` must be at least 1, got -3."),
        ("profile", {"step": "1e"}, 400, "`step` must be a step, got '1e'."),
        ("events", {"most": "1.5"}, 400, "`most` must be a whole number, got '1.5'."),
        ("layers", {"optimizer": "x"}, 400, "`optimizer` must be a whole number, got 'x'."),
        ("layers", {"optimizer": "1"}, 404, "The run has no optimizer 1, or nothing of it was read yet."),
        ("curve", {"layer": "<b>"}, 404, "There is no layer '<b>': ask /layers for the names."),
        ("curve", {}, 404, "There is no layer '': ask /layers for the names."),
    ],
)
def test_a_request_that_cannot_be_answered_says_why_in_a_sentence(client, route, parameters, code, reason):
    assert ask(client, route, code, **parameters) == {"error": reason}


def test_no_answer_grows_beyond_its_limit_whatever_is_asked(client):
    huge = 10**9
    assert len(ask(client, "heatmap", rows=huge, columns=huge)["layers"]) == 2
    assert ask(client, "timeline", points=huge, first=-huge, last=huge)["logged"] == 20
    assert ask(client, "profile", step=huge)["step"] == 19


def test_a_profile_before_the_first_logged_step_is_not_found(tmp_path, writer, event):
    from lightning_gradwatch.tensorboard.records import RunHistory

    with writer(tmp_path / "a b") as file:
        file.add_summary(RunHistory().event(0, event()), 0)
    assert "Nothing was logged yet" in ask(serve(tmp_path, "a b"), "profile", 404)["error"]


@pytest.mark.parametrize("content", [b"", b"\x00" * 500, b"garbage that is no event file", None])
def test_a_file_that_is_empty_or_broken_does_not_hide_the_others(tmp_path, write, content):
    write(tmp_path / "a b", np.ones((3, 1)))
    whole = next((tmp_path / "a b").iterdir()).read_bytes()
    broken = whole[: len(whole) // 2] if content is None else content
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "events.out.tfevents.1").write_bytes(broken)
    runs = ask(serve(tmp_path, "a b", "broken"), "runs")["runs"]
    assert [run["run"] for run in runs] == ["a b", "broken"]
    assert runs[0]["optimizers"][0]["logged"] == 3
    assert not runs[1]["loading"]


@pytest.mark.parametrize("logdir", ["", "s3://bucket/logs", "gs://bucket"])
def test_without_a_local_log_directory_the_reason_is_given(logdir):
    assert "--logdir" in ask(serve(logdir, "a b"), "runs", 404)["error"]


def test_the_log_directory_may_begin_with_a_tilde(tmp_path, write, monkeypatch):
    write(tmp_path / "logs" / "a b", np.ones((3, 1)))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ask(serve(Path("~/logs"), "a b"), "layers")["layers"] == ["net.0"]


def test_the_page_is_a_module_that_exports_render(client):
    response = client.get("/index.js")
    assert response.mimetype == "text/javascript"
    assert "as render" in response.text
    assert len(response.data) < 1_000_000


def test_1000_layers_and_100000_steps_logged_every_50_are_answered_in_under_a_second(tmp_path, write):
    write(tmp_path / "a b", np.random.default_rng(0).lognormal(size=(2000, 1000)), every=50)
    client = serve(tmp_path, "a b")
    while ask(client, "runs")["runs"][0]["loading"]:
        pass
    for route in ROUTES:
        started = time.perf_counter()
        ask(client, route, layer="net.7", first=20_000, last=70_000)
        assert time.perf_counter() - started < 1
