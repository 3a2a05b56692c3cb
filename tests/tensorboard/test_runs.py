# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING

from lightning_gradwatch.tensorboard import runs
from lightning_gradwatch.tensorboard.records import SERIES, RunHistory
from lightning_gradwatch.tensorboard.runs import LogDirectory

ONE: dict[str, Any] = {"total": 1.0, "total_clipped": 1.0}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(runs, "_PAUSE", 0.0)


def test_a_run_is_read_as_it_grows(tmp_path, writer):
    directory, history = LogDirectory(tmp_path), RunHistory()
    for step in range(3):
        with writer(tmp_path / "a") as file:
            file.add_summary(history.add(step, ["net"], np.ones(1), **ONE), step)
        assert directory.refresh(["a"], math.inf)["a"].histories[0].steps.tolist() == list(range(step + 1))


def test_runs_and_optimizers_are_kept_apart(tmp_path, writer):
    for run, optimizer, value in (("a", 0, 1.0), ("a", 1, 2.0), ("b", 0, 3.0)):
        with writer(tmp_path / run) as file:
            file.add_summary(RunHistory(optimizer).add(0, ["net"], np.array([value]), **ONE), 0)
    found = LogDirectory(tmp_path).refresh(["a", "b"], math.inf)
    values = {(run, i): next(h.rows(0, 1))[0, 0] for run in found for i, h in found[run].histories.items()}
    assert values == {("a", 0): 1.0, ("a", 1): 2.0, ("b", 0): 3.0}


def test_without_time_the_run_says_that_it_is_still_loading(tmp_path, write):
    write(tmp_path / "a", np.ones((3, 1)))
    directory = LogDirectory(tmp_path)
    assert directory.refresh(["a"], 0.0)["a"].loading
    run = directory.refresh(["a"], math.inf)["a"]
    assert not run.loading
    assert len(run.histories[0]) == 3


def test_a_run_that_tensorboard_no_longer_lists_is_forgotten(tmp_path, write):
    write(tmp_path / "a", np.ones((3, 1)))
    directory = LogDirectory(tmp_path)
    directory.refresh(["a"], math.inf)
    assert directory.refresh([], math.inf) == {}


def test_a_rewritten_run_is_read_anew(tmp_path, write):
    directory = LogDirectory(tmp_path)
    write(tmp_path / "a", np.ones((9, 1)))
    directory.refresh(["a"], math.inf)
    next((tmp_path / "a").iterdir()).unlink()
    write(tmp_path / "a", np.ones((2, 1)))
    assert len(directory.refresh(["a"], math.inf)["a"].histories[0]) == 2


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_out_of_the_log_directory_is_not_followed_and_the_run_says_so(tmp_path, write, link):
    (tmp_path / "logs").mkdir()
    write(tmp_path / "secret", np.ones((3, 1)))
    if link == "folder":
        (tmp_path / "logs" / "a").symlink_to(tmp_path / "secret")
    else:
        (tmp_path / "logs" / "a").mkdir()
        (tmp_path / "logs" / "a" / "tfevents").symlink_to(next((tmp_path / "secret").iterdir()))
    run = LogDirectory(tmp_path / "logs").refresh(["a"], math.inf)["a"]
    assert run.histories == {}
    assert "link out of the log directory" in run.problems[0]


@pytest.mark.parametrize("name", ["../secret", "/secret", "a/../../secret"])
def test_a_name_that_leads_out_of_the_log_directory_reads_nothing(tmp_path, write, name):
    (tmp_path / "logs" / "a").mkdir(parents=True)
    write(tmp_path / "secret", np.ones((3, 1)))
    name = str(tmp_path / "secret") if name == "/secret" else name
    assert LogDirectory(tmp_path / "logs").refresh([name], math.inf)[name].histories == {}


def test_a_link_within_the_log_directory_is_followed(tmp_path, write):
    write(tmp_path / "a", np.ones((3, 1)))
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert len(LogDirectory(tmp_path).refresh(["b"], math.inf)["b"].histories[0]) == 3


def test_a_pipe_does_not_block(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "tfevents")
    assert LogDirectory(tmp_path).refresh(["a"], math.inf)["a"].histories == {}


def test_a_folder_that_is_not_there_is_said(tmp_path):
    run = LogDirectory(tmp_path).refresh(["s3"], math.inf)["s3"]
    assert "cannot be read" in run.problems[0]
    assert not run.loading


def header(**change):
    return {"step": 1, "series": dict.fromkeys(SERIES, 1.0), "key": "k", "values": ["norm"], "layers": ["a"], **change}


def read_with(tmp_path, writer, **change):
    """A run of three records, the second of them with a changed header."""
    history = RunHistory()
    with writer(tmp_path) as file:
        file.add_summary(history.add(0, ["net"], np.ones(1), **ONE), 0)
        file.add_summary(history._summary("steps", header(**change), np.ones(1, dtype="<f4").tobytes()), 1)
        file.add_summary(history.add(2, ["net"], np.ones(1), **ONE), 2)
    return LogDirectory(tmp_path).refresh(["."], math.inf)["."]


def test_the_header_that_the_next_test_changes_is_well_formed(tmp_path, writer):
    run = read_with(tmp_path, writer)
    assert run.histories[0].steps.tolist() == [0, 1, 2]
    assert not run.problems


@pytest.mark.parametrize(
    "change",
    [
        {"values": None},
        {"values": ["norm", "colour"]},
        {"values": ["norm", "ratio"]},
        {"layers": 3},
        {"layers": ["a", "b"]},
        {"series": {}},
        {"series": []},
        {"key": ["unhashable"]},
        {"event": {"kind": "boredom"}},
        {"event": "spike"},
        {"event": {}},
    ],
)
def test_a_malformed_record_is_left_out_with_a_notice(tmp_path, writer, change):
    run = read_with(tmp_path, writer, **change)
    assert run.histories[0].steps.tolist() == [0, 2]
    assert not run.histories[0].events
    assert "malformed record" in run.problems[0]


def test_a_tensor_of_another_plugin_under_our_tag_is_left_out(tmp_path, writer):
    value = Summary.Value(tag="gradwatch/opt0/steps", tensor=TensorProto(dtype=DT_STRING, string_val=[b"hello"]))
    with writer(tmp_path) as file:
        file.add_summary(Summary(value=[value, Summary.Value(tag="x", metadata=SummaryMetadata())]), 0)
    run = LogDirectory(tmp_path).refresh(["."], math.inf)["."]
    assert run.histories == {}
    assert "damaged record" in run.problems[0]
