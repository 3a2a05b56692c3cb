# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
from tensorboard.compat.proto.summary_pb2 import Summary

from lightning_gradwatch.tensorboard.eventfile import EventFile
from lightning_gradwatch.tensorboard.records import RunHistory


@pytest.fixture
def path(tmp_path, write):
    write(tmp_path, np.ones((3, 2)))
    return next(tmp_path.iterdir())


def steps(file):
    return [found.record.header["step"] for found in file.read(math.inf)]


def test_records_are_read_once(path):
    file = EventFile(path)
    assert steps(file) == [0, 1, 2]
    assert steps(file) == []
    assert file.complete


def test_a_record_that_is_still_being_written_is_read_when_it_is_whole(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    file = EventFile(path)
    assert steps(file) == [0, 1]
    path.write_bytes(whole)
    assert steps(file) == [2]
    assert not file.damage


@pytest.mark.parametrize("size", [0, 3, 11, 12, 20])
def test_a_file_that_has_just_been_begun_is_empty_not_damaged(path, size):
    path.write_bytes(path.read_bytes()[:size])
    file = EventFile(path)
    assert steps(file) == []
    assert not file.damage


def test_a_damaged_length_ends_the_file_with_a_notice(path):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    file = EventFile(path)
    assert steps(file) == []
    assert file.complete
    assert "damaged at byte 0" in file.damage


def test_a_damaged_record_is_left_out_with_a_notice_and_the_next_is_read(path):
    data = bytearray(path.read_bytes())
    data[data.index(b"net.0")] ^= 1
    path.write_bytes(data)
    file = EventFile(path)
    assert steps(file)[-1] == 2
    assert "left out" in file.damage


def test_what_is_no_event_file_is_damaged_not_an_error(path):
    path.write_bytes(b"not an event file at all, but long enough")
    file = EventFile(path)
    assert steps(file) == []
    assert "damaged" in file.damage


def test_records_of_others_are_passed_over_whatever_their_size(tmp_path, writer):
    history = RunHistory()
    with writer(tmp_path) as file:
        file.add_summary(Summary(value=[Summary.Value(tag="x" * 200_000, simple_value=1.0)]), 0)
        file.add_summary(history.add(1, ["a"], np.ones(1), total=1.0, total_clipped=1.0), 1)
        file.add_summary(Summary(value=[Summary.Value(tag="loss", simple_value=1.0)]), 2)
    file = EventFile(next(tmp_path.iterdir()))
    assert steps(file) == [1]
    assert not file.damage


def test_a_deadline_leaves_the_rest_for_later(path):
    file = EventFile(path)
    assert list(file.read(0.0)) == []
    assert not file.complete
    assert steps(file) == [0, 1, 2]


def test_arrays_lie_where_the_record_says(path):
    found = list(EventFile(path).read(math.inf))[-1]
    data = path.read_bytes()[found.position : found.position + 8]
    assert np.frombuffer(data, "<f4").tolist() == [1.0, 1.0]


def test_a_file_that_was_cut_or_removed_counts_as_replaced(path):
    file = EventFile(path)
    assert not file.replaced()
    steps(file)
    assert not file.replaced()
    path.write_bytes(path.read_bytes()[:50])
    assert file.replaced()
    path.unlink()
    assert file.replaced()
