# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pytest

from lightning_gradwatch.tensorboard import cells
from lightning_gradwatch.tensorboard.cells import curve, heatmap, pack, profile
from lightning_gradwatch.tensorboard.records import RunHistory

ALL = (-math.inf, math.inf)


def unpack(text, kind="<f8"):
    return np.frombuffer(base64.b64decode(text), kind)


def grid(answer):
    return unpack(answer["cells"], "<f4").reshape(len(answer["layers"]), -1)


def steps(answer):
    return unpack(answer["steps"]).tolist()


def test_packed_numbers_come_back_also_nan_and_infinity():
    given = np.array([1.5, math.nan, math.inf, -1.0])
    assert np.array_equal(unpack(pack(given)), given, equal_nan=True)
    assert unpack(pack(given.astype(np.float32)), "<f4").tolist()[0] == 1.5


def test_a_small_run_has_one_cell_per_layer_and_logged_step(tmp_path, write, read):
    given = np.arange(1.0, 13.0).reshape(4, 3)
    names = write(tmp_path, given, every=10)
    answer = heatmap(read(tmp_path), "norm", ALL, 100, 100)
    assert answer["layers"] == names
    assert steps(answer) == [0, 10, 20, 30]
    assert answer["exact"]
    assert np.array_equal(grid(answer), given.T)


def test_where_steps_and_layers_share_a_cell_it_has_the_largest(tmp_path, write, read):
    given = np.random.default_rng(0).lognormal(size=(100, 10)).astype(np.float32)
    write(tmp_path, given)
    answer = heatmap(read(tmp_path), "norm", ALL, 5, 20)
    assert answer["merged"] == 2
    assert not answer["exact"]
    assert steps(answer) == list(range(0, 100, 5))
    assert unpack(answer["ends"]).tolist() == list(range(4, 100, 5))
    assert np.array_equal(grid(answer), given.reshape(20, 5, 5, 2).max(axis=(1, 3)).T)


def test_a_nan_is_never_averaged_away(tmp_path, write, read):
    given = np.ones((100, 4))
    given[57, 2] = math.nan
    write(tmp_path, given)
    answer = heatmap(read(tmp_path), "norm", ALL, 2, 10)
    assert np.argwhere(np.isnan(grid(answer))).tolist() == [[1, 5]]


def test_zooming_in_shows_each_logged_step_exactly_though_the_overview_has_merged_them(tmp_path, write, read):
    given = np.random.default_rng(0).lognormal(size=(3000, 2)).astype(np.float32)
    write(tmp_path, given)
    history = read(tmp_path)
    answer = heatmap(history, "norm", (1000, 1099), 10, 400)
    assert history.overview.stride == 4
    assert answer["exact"]
    assert np.array_equal(grid(answer), given[1000:1100].T)


def test_a_long_stretch_is_answered_from_the_overview_and_keeps_its_spike(tmp_path, write, read, monkeypatch):
    monkeypatch.setattr(cells, "EXACT_ROWS", 100)
    given = np.ones((3000, 2))
    given[1501] = 7.0
    write(tmp_path, given)
    answer = heatmap(read(tmp_path), "norm", (1000, 1999), 10, 50)
    assert grid(answer).max() == 7.0
    assert len(steps(answer)) <= 50
    assert steps(answer)[0] <= 1000


@pytest.mark.parametrize("span", [(5000, 6000), (-9, -1), (7, 3)])
def test_a_stretch_without_logged_steps_is_empty(tmp_path, write, read, span):
    write(tmp_path, np.ones((10, 2)))
    assert steps(heatmap(read(tmp_path), "norm", span, 10, 10)) == []
    assert steps(curve(read(tmp_path), "net.1", span, 10)) == []


def test_a_curve_has_all_values_of_one_layer(tmp_path, read, writer):
    history = RunHistory()
    with writer(tmp_path) as file:
        for step in range(3):
            given: dict[str, Any] = {
                "update_ratios": np.array([0.1, 0.2 * step]),
                "nonfinite_share": np.array([0.0, 0.5]),
            }
            summary = history.add(step, ["a", "b"], np.array([1.0, step]), total=1.0, total_clipped=1.0, **given)
            file.add_summary(summary, step)
    answer = curve(read(tmp_path), "b", ALL, 100)
    assert unpack(answer["norm"], "<f4").tolist() == [0.0, 1.0, 2.0]
    assert unpack(answer["ratio"], "<f4").tolist() == np.array([0.0, 0.2, 0.4], dtype=np.float32).tolist()
    assert unpack(answer["nonfinite"], "<f4").tolist() == [0.5, 0.5, 0.5]


def test_the_profile_is_that_of_the_nearest_logged_step(tmp_path, write, read):
    write(tmp_path, np.arange(1.0, 9.0).reshape(4, 2), every=10)
    history = read(tmp_path)
    assert [profile(history, step)["step"] for step in (-5, 4, 16, 999, math.inf)] == [0, 0, 20, 30, 30]
    assert unpack(profile(history, 16)["norm"], "<f4").tolist() == [5.0, 6.0]


def test_the_factor_of_a_layer_is_its_norm_over_that_of_the_next_with_a_gradient(tmp_path, write, read):
    write(tmp_path, [[1.0, 0.0, 4.0, math.nan, 8.0]], depth_factor=0.5)
    answer = profile(read(tmp_path), 0)
    assert np.array_equal(unpack(answer["factors"]), [0.25, math.nan, 0.5, math.nan, math.nan], equal_nan=True)
    assert answer["factor"] == 0.5
