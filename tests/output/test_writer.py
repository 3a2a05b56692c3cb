# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from lightning_gradwatch import EventKind, GradientEvent, Severity
from lightning_gradwatch.output.writer import Writer

EVENT = GradientEvent(EventKind.SPIKE, Severity.WARNING, 0, 0, 0, 0, None, 0, ("net",), 2.0, 1.0, "finding")


class Broken:
    """A logger whose every method fails."""

    calls = 0

    def log_metrics(self, metrics, step):
        self.calls += 1
        raise OSError("disk full")

    def save(self):
        raise OSError("disk full")


class Good:
    """A logger that keeps what it gets."""

    def __init__(self):
        self.points, self.saved = [], 0

    def log_metrics(self, metrics, step):
        self.points.append((metrics, step))

    def save(self):
        self.saved += 1


def test_a_failure_is_said_once_and_switches_only_its_kind_and_logger_off(said):
    broken, good = Broken(), Good()
    writer = Writer([broken, good])
    for step in range(3):
        writer.scalars({"a": 1.0}, step)
    writer.flush()
    assert broken.calls == 1
    assert [step for _, step in good.points] == [0, 1, 2]
    assert good.saved == 1
    assert said().count("Broken failed to write scalars (OSError: disk full); the training goes on without them.") == 1
    assert said().count("failed to write its buffer") == 1


def test_nothing_to_write_is_not_written():
    good = Good()
    Writer([good]).scalars({}, 3)
    assert good.points == []


def test_loggers_get_a_copy_of_the_values():
    good, values = Good(), {"a": 1.0}
    Writer([good]).scalars(values, 0)
    values["a"] = 2.0
    assert good.points == [({"a": 1.0}, 0)]


@pytest.mark.parametrize("values", [torch.tensor([float("nan")]), torch.zeros(0), torch.ones(2)])
def test_texts_and_histograms_pass_by_other_loggers(values):
    good = Good()
    writer = Writer([good])
    writer.histogram("h", values, 0)
    writer.text("t", EVENT)
    assert good.points == []


def test_without_loggers_nothing_happens():
    writer = Writer([])
    writer.scalars({"a": 1.0}, 0)
    writer.flush()
