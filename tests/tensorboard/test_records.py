# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.events import GradientEvent
from lightning_gradwatch.tensorboard.parsing import parse
from lightning_gradwatch.tensorboard.records import ABSENT, PLUGIN, RunHistory

LAYERS = ["net.0", "net.2"]


def added(history, step=0, norms=(1.0, 2.0), layers=LAYERS, **rest):
    given = {"total": 3.0, "total_clipped": 1.0, **rest}
    return history.add(step, layers, np.array(norms), **given)


def raw(summary):
    return summary.value[0].tensor.string_val[0]


def test_a_step_comes_back_as_it_was_given():
    record = parse(raw(added(RunHistory(1), 7, update_ratios=np.array([0.5, 0.25]), limit=1.5, factor=0.5)))
    assert record.header["step"] == 7
    assert record.header["optimizer"] == 1
    assert record.header["layers"] == LAYERS
    assert record.header["values"] == ["norm", "ratio"]
    assert record.arrays.tolist() == [1.0, 2.0, 0.5, 0.25]
    assert record.header["series"]["limit"] == 1.5
    assert record.header["series"]["max_abs"] is None


def test_an_event_comes_back_as_it_was_given(event):
    given = event("spike", 4, message="a < b\nwhere: net.0", rank=3)
    record = parse(raw(RunHistory().event(5, given)))
    assert record.header["step"] == 5
    assert GradientEvent.from_dict(record.header["event"]) == given


def test_nan_and_infinity_survive():
    record = parse(raw(added(RunHistory(), norms=(math.nan, math.inf), total=math.nan, limit=math.inf)))
    assert math.isnan(record.arrays[0])
    assert math.isinf(record.arrays[1])
    assert math.isnan(record.header["series"]["total"])
    assert math.isinf(record.header["series"]["limit"])


def test_what_single_precision_cannot_hold_stays_finite_and_stays_nonzero():
    record = parse(raw(added(RunHistory(), norms=(1e300, 1e-300))))
    assert math.isfinite(record.arrays[0])
    assert record.arrays[1] > 0


def test_a_ratio_that_was_not_measured_is_absent_not_nonfinite():
    record = parse(raw(added(RunHistory(), update_ratios=np.array([math.nan, 0.1]))))
    assert record.arrays[2] == ABSENT


def test_names_are_written_once_per_writer_and_set_of_layers():
    history = RunHistory()
    summaries = [
        added(history),
        added(history),
        added(history, layers=["net.0", "net.4"]),
        added(history),
        added(RunHistory()),
    ]
    assert ["layers" in parse(raw(summary)).header for summary in summaries] == [True, False, True, False, True]


def test_the_summary_says_that_it_is_a_tensor_of_this_plugin():
    value = added(RunHistory()).value[0]
    assert value.metadata.plugin_data.plugin_name == PLUGIN
    assert value.metadata.data_class == 2  # DATA_CLASS_TENSOR: the default data server drops what has no class


def test_an_array_of_the_wrong_size_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="`ratio` must have one entry per layer, 2, got shape"):
        added(RunHistory(), update_ratios=np.ones(3))


def test_300_layers_and_10000_steps_logged_every_50_stay_far_below_20_mb():
    history, layers = RunHistory(), [f"model.encoder.layers.{i}.attention" for i in range(300)]
    ones = np.ones(300)
    sizes = [added(history, step, ones, layers, update_ratios=ones).ByteSize() for step in range(0, 10_000, 50)]
    assert sum(sizes) < 1e6


@pytest.mark.parametrize("cut", [0, 5, 19, 40, -1])
def test_a_record_cut_short_is_an_error(cut):
    with pytest.raises(ValueError, match="record"):
        parse(raw(added(RunHistory()))[:cut])


def test_a_record_with_one_bit_changed_is_an_error():
    record = bytearray(raw(added(RunHistory())))
    record[-1] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        parse(bytes(record))


@pytest.mark.parametrize("step", [-1, 2**70, 1.5, "1"])
def test_a_step_that_is_no_count_is_an_error(step):
    with pytest.raises(ValueError, match="no step"):
        parse(raw(added(RunHistory(), step)))
