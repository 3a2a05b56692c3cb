# SPDX-License-Identifier: Apache-2.0
"""Batches that are broken, outlying or mislabelled. The changes draw no random numbers: all else stays equal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, Half
from benchmarks.listed.tasks import MakeOptimizer, Run, adam, diabetes, digits, fit, sgd
from benchmarks.rescue.pair import Pair, pair
from benchmarks.rescue.rates import momentum

Make = Callable[[slice, data.Change | None, MakeOptimizer], Run]
FIRST = slice(1)
ONCE = slice(120, 121)
NOW_AND_THEN = slice(20, None, 40)
BURST = slice(100, 120)


def times(scale: float) -> data.Change:
    """In another unit."""
    return lambda x: x * scale


def nan(x: Tensor) -> Tensor:
    """One entry is NaN."""
    x = x.clone()
    x.view(-1)[7] = torch.nan
    return x


def next_class(y: Tensor) -> Tensor:
    """Every label is wrong."""
    return (y + 1) % 10


def mlp(at: slice, x: data.Change | None, optimizer: MakeOptimizer) -> Run:
    """Changed inputs of a perceptron."""
    return digits(optimizer=optimizer, steps=250, at=at, x=x)


def cnn(at: slice, x: data.Change | None, optimizer: MakeOptimizer) -> Run:
    """Changed inputs of convolutions without normalisation."""
    return fit(nets.cnn(norm=False), data.tamper(data.images(250), at, x), optimizer)


def labels(at: slice, y: data.Change | None, optimizer: MakeOptimizer) -> Run:
    """Changed classes."""
    return digits(optimizer=optimizer, steps=250, at=at, y=y)


def targets(at: slice, y: data.Change | None, optimizer: MakeOptimizer) -> Run:
    """Changed targets of a regression."""
    return diabetes(nets.mlp(10, 32, 32, 1), optimizer, at=at, y=y)


def poisoned(name: str, half: Half, make: Make, at: slice, change: data.Change, optimizer: MakeOptimizer) -> Pair:
    """A pair that differs in the batches `at`."""
    return pair(name, half, lambda how: make(at, how, optimizer), sick=change, sound=None, poisoned=at)


PAIRS = (
    poisoned("mlp_nan_batches", TUNING, mlp, NOW_AND_THEN, nan, adam(3e-3)),
    poisoned("cnn_nan_batches", REPORTING, cnn, NOW_AND_THEN, nan, momentum(0.03)),
    poisoned("mlp_inputs_x1e4_now_and_then", REPORTING, mlp, NOW_AND_THEN, times(1e4), sgd(0.2)),
    poisoned("cnn_inputs_x1e4_now_and_then", TUNING, cnn, NOW_AND_THEN, times(1e4), adam(3e-3)),
    poisoned("mlp_inputs_x1e6_once", TUNING, mlp, ONCE, times(1e6), momentum(0.05)),
    poisoned("cnn_inputs_x1e6_once", REPORTING, cnn, ONCE, times(1e6), sgd(0.1)),
    poisoned("mlp_first_batch_x1e4_sgd", TUNING, mlp, FIRST, times(1e4), sgd(0.3)),
    poisoned("mlp_first_batch_x1e6_adam", REPORTING, mlp, FIRST, times(1e6), adam(1e-3)),
    poisoned("mislabelled_burst", REPORTING, labels, BURST, next_class, momentum(0.3)),
    poisoned("mislabelled_now_and_then", TUNING, labels, NOW_AND_THEN, next_class, momentum(0.2)),
    poisoned("targets_x1e4_now_and_then", REPORTING, targets, NOW_AND_THEN, times(1e4), sgd(0.05)),
    poisoned("targets_x1e3_burst", TUNING, targets, BURST, times(1e3), adam(1e-2)),
)
