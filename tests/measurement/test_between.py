# SPDX-License-Identifier: Apache-2.0
"""Whether what a step left is what the next one finds."""

from __future__ import annotations

import pytest
import torch

from lightning_gradwatch.measurement.between import ENTRIES, Between

PARTS = [
    torch.randn(16, 16),
    torch.randn(16),
    torch.randn(2, 2),
    torch.randn(300, 7).double(),
    torch.randn(8, 16).bfloat16(),
]


def after(step, since):
    """[2, k] of a step that adds `step`, and of what adds `since` before the next one."""
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(part.clone()) for part in PARTS]
    between = Between(parameters)
    between.before(range(len(parameters)))
    change = [torch.ones_like(p) * step for p in parameters]
    with torch.no_grad():
        for parameter, one in zip(parameters, change, strict=True):
            parameter.add_(one)
        between.left()
        for parameter, one in zip(parameters, change, strict=True):
            parameter.add_(since * one)
    assert between.indices == [0, 3, 4]  # matrices of some size
    found = between.found()
    assert found is not None
    return found.reshape(2, -1)


def test_weights_that_nobody_touches_are_found_as_they_were_left():
    assert torch.equal(after(0.5, 0.0), torch.zeros(2, 3, dtype=torch.float64))


def test_a_step_that_is_put_back_is_undone():
    undone, moved = after(0.5, -1.0)
    assert undone.tolist() == pytest.approx([1.0] * 3, abs=1e-2)
    assert moved.tolist() == pytest.approx([1.0] * 3, abs=1e-2)


def test_a_move_in_another_direction_undoes_nothing():
    undone, moved = after(0.5, 4.0)
    assert undone.max() < 0
    assert moved.tolist() == pytest.approx([4.0] * 3, abs=0.1)


def test_a_step_that_moves_nothing_says_nothing():
    assert after(0.0, 0.0).isnan().all()


def test_what_was_not_taken_or_is_forgotten_is_not_compared():
    between = Between([torch.randn(ENTRIES, 2)])
    between.before([0])
    assert between.found() is None  # no step
    between.before([0])
    between.left()
    between.clear()
    assert between.found() is None
