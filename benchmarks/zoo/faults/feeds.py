# SPDX-License-Identifier: Apache-2.0
"""Batches in the wrong unit, broken, outlying, or mislabelled."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.zoo.core import Run
from benchmarks.zoo.fault import NOTHING, TOO_LARGE, fault

UNITS = (*TOO_LARGE, "off_scale", "stalled", "vanishing")
MARKED = (*TOO_LARGE, "outlier")


@fault("tuning", UNITS, "inputs not scaled", needs=["float inputs"])
def inputs_in_raw_units(run: Run) -> None:
    """Columns in units of their own, from 1 to 10,000, and not around zero."""

    def raw(x: Tensor) -> Tensor:
        columns = torch.logspace(0, 4, x.shape[-1])
        return (x + 1) * columns

    run.feed(x=raw)


@fault("left out", UNITS, "inputs not scaled", needs=["float inputs"])
def inputs_x1000(run: Run) -> None:
    """Millimetres for metres."""
    run.feed(x=lambda x: 1000 * x)


@fault("left out", UNITS, "inputs not scaled", needs=["pixels"])
def pixels_to_255(run: Run) -> None:
    """Grey values from 0 to 255, as files have them."""
    run.feed(x=lambda x: (128 + 64 * x).clamp(0, 255))


def units(run: Run, scale: float, shift: float) -> None:
    """Targets in another unit. The score stays in the old one."""
    judge = run.judge
    run.feed(y=lambda y: scale * y + shift)
    run.judge = lambda net, batch: judge(net, batch) / scale**2


@fault("tuning", UNITS, "targets not scaled", needs=["numbers"])
def targets_x1000(run: Run) -> None:
    """Prices in cents."""
    units(run, 1e3, 0.0)


@fault("left out", UNITS, "targets not scaled", needs=["numbers"])
def targets_far_from_zero(run: Run) -> None:
    """Years: around 2,000, a few apart."""
    units(run, 5.0, 2000.0)


@fault("left out", (*NOTHING, "off_scale"), "bad batch", "inputs not scaled", needs=["float inputs"])
def inputs_all_zero(run: Run) -> None:
    """A loader that hands out its empty buffer."""
    run.feed(x=torch.zeros_like)


def once(run: Run, x: object = None, y: object = None, share: float = 0.5, count: int = 1) -> None:
    """Changes a few batches in a row."""
    run.onset = int(share * run.steps)
    run.poisoned = range(run.onset, run.onset + count)
    run.feed(x, y, run.poisoned)  # type: ignore[arg-type]


def holed(value: float) -> object:
    """One entry of the batch is replaced."""

    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x.view(-1)[7] = value
        return x

    return change


@fault("tuning", MARKED, "bad batch", needs=["float inputs"], rescue=True)
def nan_in_a_batch(run: Run) -> None:
    """One entry is NaN."""
    once(run, holed(torch.nan))


@fault("left out", MARKED, "bad batch", needs=["float inputs"], rescue=True)
def inf_in_a_batch(run: Run) -> None:
    """One entry is infinite."""
    once(run, holed(torch.inf), share=0.7)


@fault("left out", MARKED, "bad batch", needs=["numbers"], rescue=True)
def nan_targets(run: Run) -> None:
    """Missing values in a few targets."""
    once(run, y=holed(torch.nan), share=0.3)


@fault("left out", MARKED, "bad batch", "inputs not scaled", needs=["float inputs"], rescue=True)
def outlier_batch(run: Run) -> None:
    """One batch a million times as large."""
    once(run, lambda x: 1e6 * x, share=0.8)


@fault("tuning", MARKED, "bad batch", "inputs not scaled", needs=["float inputs"], rescue=True)
def outliers_in_a_row(run: Run) -> None:
    """Five batches ten thousand times as large."""
    once(run, lambda x: 1e4 * x, share=0.8, count=5)


@fault("left out", MARKED, "bad batch", "inputs not scaled", needs=["float inputs"], rescue=True)
def first_batch_x1e6(run: Run) -> None:
    """The very first batch is a million times as large."""
    once(run, lambda x: 1e6 * x, share=0.0)


@fault("tuning", MARKED, "bad batch", "targets not scaled", needs=["numbers"], rescue=True)
def target_outliers(run: Run) -> None:
    """The targets of three batches are 100,000 times as large."""
    once(run, y=lambda y: 1e5 * y, share=0.8, count=3)


@fault("left out", MARKED, "bad batch", needs=["classes", "float inputs"], rescue=True, subtle=True)
def mislabelled_burst(run: Run) -> None:
    """The labels of 15 batches near the end are those of the next class."""
    once(run, y=lambda y: (y + 1) % (int(y.max()) + 1), share=0.9, count=15)
