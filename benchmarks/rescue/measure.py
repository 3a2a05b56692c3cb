# SPDX-License-Identifier: Apache-2.0
"""One configuration and seed: sound, and with the fault under each method."""

from __future__ import annotations

import time
from typing import Any

import torch
from pytorch_lightning import Callback

from benchmarks.listed.measure import prepare, train
from benchmarks.listed.tasks import Run
from benchmarks.rescue.cases import PAIRS
from benchmarks.rescue.methods import METHODS
from benchmarks.rescue.oracle import grid
from benchmarks.rescue.pair import Pair
from benchmarks.rescue.score import ratio, rescued, score

Result = dict[str, Any]


def one(job: tuple[str, int, tuple[str, ...], bool]) -> Result:
    """Everything that the table needs of one pair and seed; plain types only.

    Args:
        job: The pair's name, the seed, the methods' names, whether to ask the oracle where none of them helps.
    """
    prepare()
    torch.backends.mha.set_fastpath_enabled(False)  # it wants the norms that some transformers here do without
    start = time.perf_counter()
    pair, seed = PAIRS[job[0]], job[1]
    sound, accuracy = trained(pair, pair.build(seed, sound=True), [], seed)
    values = {name: under(pair, name, seed) for name in job[2]}
    held = {name: rescued(value, sound, accuracy=accuracy) for name, value in values.items()}
    by_oracle = known_to_oracle(pair, seed, sound) if job[3] and not any(held.values()) else ""
    result = {"pair": pair.name, "seed": seed, "half": pair.half, "accuracy": accuracy, "sound": sound}
    seconds = round(time.perf_counter() - start, 1)
    ratios = {name: ratio(value, sound, accuracy=accuracy) for name, value in values.items()}
    return result | {"values": values, "ratio": ratios, "rescued": held, "oracle": by_oracle, "seconds": seconds}


def trained(pair: Pair, run: Run, callbacks: list[Callback], seed: int) -> tuple[float, bool]:
    """How the run ends, and whether that is an accuracy."""
    train(run, callbacks)
    return score(run.module.net, pair.judge(seed))


def under(pair: Pair, method: str, seed: int) -> float:
    """How the faulty run ends under a method."""
    return trained(pair, *METHODS[method](pair.build(seed, sound=False)), seed)[0]


def known_to_oracle(pair: Pair, seed: int, sound: float) -> str:
    """The first point of the oracle's grid that rescues the run, or nothing."""
    poisoned = range(len(pair.build(seed, sound=False).batches))[pair.poisoned or slice(0)]
    for name, oracle in grid(poisoned):
        value, accuracy = trained(pair, pair.build(seed, sound=False), [oracle()], seed)
        if rescued(value, sound, accuracy=accuracy):
            return name
    return ""
