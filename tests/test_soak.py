# SPDX-License-Identifier: Apache-2.0
"""The soak of `benchmarks`, 1,600 steps of it, with detectors that keep few events. An alarm at each step."""

import warnings

import pytest

from benchmarks.soak import LOG_EVERY, soak
from lightning_gradwatch.callbacks import detector

MOST, STEPS, SAMPLES = 3, 1600, 8


@pytest.fixture(scope="module")
def samples():
    """Of the second half, when both detectors have kept as many events as they may."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(detector, "MOST_EVENTS", MOST)
        return soak(STEPS, SAMPLES)[SAMPLES // 2 - 1 :]


def grown(samples, name):
    return getattr(samples[-1], name) - getattr(samples[0], name)


def test_every_step_has_an_alarm(samples):
    assert grown(samples, "found") >= STEPS // 2


def test_detectors_keep_no_more_events_than_they_may(samples):
    assert {sample.events for sample in samples} == {2 * MOST}


def test_the_checkpoint_stays_as_large_as_it_is(samples):
    sizes = [sample.state for sample in samples]
    assert max(sizes) - min(sizes) < 3.0  # KB; the logger hands its numbers to torchmetrics 256 at a time


def test_no_objects_pile_up(samples):
    assert grown(samples, "objects") < 0.2  # thousand, in 800 steps


def test_the_console_counts_what_it_has_told(samples):
    assert grown(samples, "lines") <= 3  # such as the 1,000th explosion


def test_the_event_files_do_not_take_each_event(samples):
    assert grown(samples, "files") * 1e3 < 10.0 * STEPS / 2 / LOG_EVERY  # KB for each logged step
