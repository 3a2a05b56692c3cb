# SPDX-License-Identifier: Apache-2.0
"""What a batch holds."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from math import inf, nan

import pytest
import torch

from lightning_gradwatch.diagnosis import inspect, nonfinite

BAD = torch.tensor([1.0, nan, nan, nan, inf])
GOOD = torch.tensor([3.0, -4.0])


@dataclass
class Graph:
    x: torch.Tensor
    edges: torch.Tensor


Pair = namedtuple("Pair", "image label")


@pytest.mark.parametrize(
    ("batch", "path"),
    [
        (BAD, "batch"),
        ([GOOD, BAD], "batch[1]"),
        ((GOOD, {"x": BAD}), 'batch[1]["x"]'),
        ({"x": BAD, "y": GOOD}, 'batch["x"]'),
        ({7: BAD}, "batch[7]"),
        (Pair(BAD, GOOD), "batch.image"),
        (Graph(BAD, torch.tensor([1])), "batch.x"),
    ],
)
def test_a_tensor_that_is_not_finite_is_found_wherever_it_is(batch, path):
    assert nonfinite(inspect(batch)) == f"{path} holds 3 NaN and 1 inf"


def test_the_scale_is_told():
    (one,) = inspect({"x": GOOD, "text": "abc", "y": torch.tensor([1, 2]), "z": None, "none": torch.zeros(0)})
    assert (one.path, one.nan, one.inf, one.largest) == ('batch["x"]', 0, 0, 4.0)
    assert one.rms == pytest.approx(12.5**0.5)


def test_the_scale_of_large_numbers_and_of_none_at_all_is_right():
    large, zero = inspect([torch.full((3,), 1e30), torch.zeros(3)])
    assert [large.rms, zero.rms] == pytest.approx([1e30, 0.0])


def test_sound_batches_have_nothing_to_tell():
    assert nonfinite(inspect([GOOD, GOOD])) == ""
    assert inspect("abc") == []


def test_a_batch_that_contains_itself_is_read_to_an_end():
    batch: list[object] = [GOOD]
    batch.append(batch)
    assert inspect(batch)[0].path == "batch[0]"


class Slotted:
    """A batch as darts makes them: slots, and no `__dict__`."""

    __slots__ = ("missing", "past")

    def __init__(self):
        self.past = torch.tensor([1.0, nan])


class Labelled(torch.Tensor):
    """A tensor whose operations want more than they get here, as pina's and monai's do."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ not in ("detach", "is_floating_point", "numel", "as_subclass", "__get__"):
            raise AttributeError("'Labelled' has no labels")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_classes_with_slots_are_looked_into():
    assert nonfinite(inspect(Slotted())) == "batch.past holds 1 NaN"


def test_tensor_subclasses_are_read_as_plain_tensors():
    batch = torch.tensor([1.0, nan]).as_subclass(Labelled)
    assert nonfinite(inspect([batch])) == "batch[0] holds 1 NaN"
