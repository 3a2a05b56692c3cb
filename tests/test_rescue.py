# SPDX-License-Identifier: Apache-2.0
"""What the rescue benchmark takes for granted."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch

from benchmarks.listed.case import REPORTING, TUNING
from benchmarks.rescue import __main__ as command
from benchmarks.rescue import beside, poison, rates, start
from benchmarks.rescue.cases import PAIRS
from benchmarks.rescue.measure import trained
from benchmarks.rescue.methods import BARE, OURS, ZCLIP
from benchmarks.rescue.oracle import Oracle
from benchmarks.rescue.score import ratio, rescued, score
from benchmarks.rescue.table import rescuable

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


def result(sound=0.98, oracle="", **held):
    values = dict.fromkeys(held, 0.5)
    base = {"pair": "mlp_sgd_20", "seed": 0, "half": TUNING, "accuracy": True, "sound": sound, "seconds": 60.0}
    return base | {"values": values, "ratio": dict(values), "rescued": held, "oracle": oracle}


def test_results_of_two_runs_are_one():
    before = result(oracle="rate <= 0.1", **{ZCLIP: False, BARE: False})
    both = beside.joined(before, result(**{OURS: True}))
    assert list(both["values"]) == list(both["ratio"]) == list(both["rescued"]) == [BARE, ZCLIP, OURS]
    assert both["oracle"] == "rate <= 0.1"
    assert both["seconds"] == 120
    assert rescuable(beside.joined(before, result(**{OURS: False})))
    assert not rescuable(beside.joined(result(**{BARE: False}), result(**{OURS: False})))


def test_results_that_are_of_other_runs_are_refused():
    with pytest.raises(ValueError, match=r"mlp_sgd_20 seed 0: the sound run ends at 0.97"):
        beside.joined(result(), result(sound=0.97))
    earlier = {("mlp_sgd_20", 0): result()}
    beside.require(earlier, [("mlp_sgd_20", 0)])
    with pytest.raises(ValueError, match="lacks mlp_sgd_20 seed 1"):
        beside.require(earlier, [("mlp_sgd_20", 0), ("mlp_sgd_20", 1)])


def test_the_table_of_two_runs_says_so(monkeypatch, tmp_path, capsys):
    (tmp_path / "earlier.jsonl").write_text(json.dumps(result(oracle="known", **{BARE: False, ZCLIP: False})) + "\n")
    asked = []

    def train(_, jobs, __):
        asked.extend(jobs)
        return [result(**{OURS: True})]

    monkeypatch.setattr(command, "each", train)
    words = ["--only", "mlp_sgd_20", "--seeds", "1", "--beside", str(tmp_path / "earlier.jsonl")]
    monkeypatch.setattr(sys, "argv", ["rescue", *words, "--out", str(tmp_path / "page.md")])
    command.main()
    ((_, _, methods, oracle),) = asked
    assert OURS in methods
    assert BARE not in methods
    assert not oracle
    page = (tmp_path / "page.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert "Of an earlier run (`earlier.jsonl`, 1.0 minutes of training): bare, ZClip; the oracle." in page
    assert "| bare |" in page
    assert f"| {OURS} | 100.0%" in page
