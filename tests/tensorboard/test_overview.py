# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.tensorboard.overview import CELLS, COLUMNS, Overview
from lightning_gradwatch.tensorboard.records import ABSENT


def row(*norms):
    return np.array([norms, norms, norms], dtype=np.float32)


def filled(count, layers=1):
    overview = Overview()
    for i in range(count):
        overview.append(row(*[float(i)] * layers))
    return overview


@pytest.mark.parametrize("count", [1, 7, 8, 9, COLUMNS, COLUMNS + 1, 5000])
def test_each_column_is_the_largest_of_its_stretch(count):
    overview = filled(count)
    cells, starts = overview.columns(0, count)
    assert starts.tolist() == list(range(0, count, overview.stride))
    assert cells[0, :, 0].tolist() == [min(start + overview.stride, count) - 1 for start in starts]


def test_a_single_spike_and_a_single_nan_stay_visible():
    overview = Overview()
    for i in range(3000):
        overview.append(row({700: 1e9, 900: math.nan}.get(i, 1.0)))
    cells = overview.columns(0, 3000)[0][0, :, 0]
    assert overview.stride == 4
    assert cells[175] == np.float32(1e9)
    assert math.isnan(cells[225])
    assert (cells == 1).sum() == len(cells) - 2


@pytest.mark.parametrize("layers", [3, 1000, 40_000])
def test_memory_is_bounded_whatever_the_number_of_layers_and_steps(layers):
    count = 1200 if layers < 5000 else 40
    assert filled(count, layers).columns(0, count)[0].size <= 3 * max(CELLS, 16 * layers)


def test_a_part_begins_with_the_column_that_holds_its_first_step():
    cells, starts = filled(2000).columns(101, 104)
    assert starts.tolist() == [100, 102]
    assert cells[0, :, 0].tolist() == [101, 103]


def test_layers_that_come_later_are_absent_before():
    overview = filled(3)
    overview.append(row(5.0, 6.0))
    cells, _ = overview.columns(0, 4)
    assert cells[0, :, 1].tolist() == [ABSENT, ABSENT, ABSENT, 6.0]


@pytest.mark.parametrize("keep", [0, 1, 1001, 1999])
def test_after_truncation_and_appending_again_it_is_as_if_nothing_had_been(keep):
    overview = filled(2000)
    for i in range(overview.truncate(keep), 2000):
        overview.append(row(float(i)))
    expected = filled(2000)
    assert np.array_equal(overview.columns(0, 2000)[0][0, :, 0], expected.columns(0, 2000)[0][0, :, 0])
