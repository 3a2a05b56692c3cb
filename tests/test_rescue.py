# SPDX-License-Identifier: Apache-2.0
"""What the rescue benchmark takes for granted."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.rescue import poison, rates, start
from benchmarks.rescue.cases import PAIRS
from benchmarks.rescue.measure import trained
from benchmarks.rescue.oracle import Oracle
from benchmarks.rescue.score import ratio, rescued, score
from benchmarks.zoo.case import REPORTING, TUNING

FAULT_IN_THE_WEIGHTS = ("normal_init", "deep_12", "rnn_gain")


def test_no_two_pairs_share_a_name_and_both_halves_are_as_large():
    assert len(PAIRS) == len(rates.PAIRS) + len(poison.PAIRS) + len(start.PAIRS)
    halves = [pair.half for pair in PAIRS.values()]
    assert abs(halves.count(TUNING) - halves.count(REPORTING)) <= 1


@pytest.mark.parametrize("name", [name for name in PAIRS if not name.startswith(FAULT_IN_THE_WEIGHTS)])
def test_both_runs_of_a_pair_start_from_the_same_weights(name):
    sick, sound = PAIRS[name].build(1, sound=False), PAIRS[name].build(1, sound=True)
    pairs = zip(sick.module.parameters(), sound.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert len(sick.batches) == len(sound.batches)


def test_rescued_is_within_a_tenth_of_the_sound_result():
    assert rescued(0.9, 1.0, accuracy=True)
    assert not rescued(0.89, 1.0, accuracy=True)
    assert rescued(1.1, 1.0, accuracy=False)
    assert not rescued(1.11, 1.0, accuracy=False)
    assert not rescued(math.nan, 1.0, accuracy=False)
    assert ratio(0.5, 1.0, accuracy=True) == ratio(2.0, 1.0, accuracy=False) == 2.0


def test_weights_that_are_nan_name_no_class():
    run = PAIRS["mlp_sgd_20"].build(0, sound=True)
    for weight in run.module.net.parameters():
        weight.data.fill_(math.nan)
    assert score(run.module.net, run) == (0.0, True)


def test_the_oracle_caps_the_rate_and_passes_over_the_poisoned_batches():
    pair = PAIRS["mlp_nan_batches"]
    run = pair.build(0, sound=False)
    value, _ = trained(pair, run._replace(batches=run.batches[:30]), [Oracle(1e-3, math.inf, range(20, 21))], 0)
    assert value > 0.3
    group = run.module.trainer.optimizers[0].param_groups[0]
    assert group["lr"] == 3e-3
    (state, *_) = run.module.trainer.optimizers[0].state.values()
    assert state["step"] == 29
