# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.tensorboard.records import ABSENT, RunHistory


def norms(history):
    return [row[0].tolist() for row in history.rows(0, len(history))]


def test_every_logged_step_can_be_read_again_exactly(tmp_path, write, read):
    given = np.random.default_rng(0).lognormal(size=(300, 7)).astype(np.float32)
    write(tmp_path, given, every=5)
    history = read(tmp_path)
    assert history.steps.tolist() == list(range(0, 1500, 5))
    assert np.array_equal(norms(history), given)
    assert np.allclose(history.series("total"), np.sqrt((given.astype(float) ** 2).sum(axis=1)))


def test_a_resumed_run_replaces_what_its_abandoned_branch_wrote(tmp_path, write, read):
    write(tmp_path, np.full((10, 1), 1.0))
    write(tmp_path, np.full((3, 1), 2.0), first=6)
    history = read(tmp_path)
    assert history.steps.tolist() == list(range(9))
    assert norms(history) == [[1.0]] * 6 + [[2.0]] * 3
    assert history.overview.columns(0, 9)[0][0, :, 0].tolist() == [1.0] * 6 + [2.0] * 3


def test_a_resumed_run_drops_the_events_of_its_abandoned_branch(tmp_path, write, read, writer, event):
    write(tmp_path, np.ones((10, 1)))
    with writer(tmp_path) as file:
        for step in (3, 8):
            file.add_summary(RunHistory().event(step, event(step=step)), step)
    write(tmp_path, np.ones((2, 1)), first=6)
    assert [event["log_step"] for event in read(tmp_path).events] == [3]


def test_a_resumed_run_is_right_also_where_the_overview_had_merged_steps(tmp_path, write, read):
    write(tmp_path, np.full((1500, 1), 1.0))
    write(tmp_path, np.full((3, 1), 0.5), first=1101)
    history = read(tmp_path)
    cells, starts = history.overview.columns(0, len(history))
    assert history.overview.stride == 2
    assert dict(zip(starts.tolist(), cells[0, :, 0].tolist(), strict=True))[1100] == 1.0
    assert cells[0, -1, 0] == 0.5


def test_layers_that_come_and_go_keep_their_place_and_depth_follows_the_newest(tmp_path, read, writer):
    history = RunHistory()
    rest: dict[str, Any] = {"total": 1.0, "total_clipped": 1.0}
    with writer(tmp_path) as file:
        file.add_summary(history.add(0, ["head", "old"], np.array([1.0, 2.0]), **rest), 0)
        file.add_summary(history.add(1, ["stem", "head"], np.array([3.0, 4.0]), **rest), 1)
        file.add_summary(history.add(2, ["head", "old"], np.array([5.0, 6.0]), **rest), 2)
    found = read(tmp_path)
    assert found.layouts.layers == ["head", "old", "stem"]
    assert found.layers == ["stem", "head", "old"]
    assert norms(found) == [[1.0, 2.0, ABSENT], [4.0, ABSENT, 3.0], [5.0, 6.0, ABSENT]]


def test_without_a_share_a_nonfinite_norm_counts_as_one(tmp_path, write, read):
    write(tmp_path, [[1.0, np.nan]])
    assert next(read(tmp_path).rows(0, 1))[2].tolist() == [0.0, 1.0]


def test_rows_of_a_file_that_was_removed_are_absent(tmp_path, write, read):
    write(tmp_path, np.ones((2, 1)))
    history = read(tmp_path)
    next(tmp_path.iterdir()).unlink()
    assert norms(history) == [[ABSENT], [ABSENT]]
