# SPDX-License-Identifier: Apache-2.0
"""The table and the picture of the learning-rate sweep."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
from benchmarks.sweep import RATES, SHOWN, draw, table  # only after the skip


@pytest.fixture
def losses():
    ends = [[2.0, 2.1, 2.2], [3.0, 1e9, math.nan]]
    return {(name, lr): ends[lr > 0.05] for name in SHOWN for lr in RATES}


def test_a_run_that_ends_in_nan_is_the_worst_of_its_row(losses):
    low, *_, high = table(losses).splitlines()[2:]
    assert low.startswith("| 0.001 | 2.1 (2 to 2.2) |")
    assert high.startswith("| 0.3 | 1e+09 (3 to nan) |")


def test_the_picture_has_room_for_runs_that_died(losses, tmp_path):
    draw(losses, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
