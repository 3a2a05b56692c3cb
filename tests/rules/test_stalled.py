# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.rules import LossHistory, RuleSet, Stalled

FLAT = [2.3] * 300
TINY = [1e-9, 1e-8, 1e-3]


def played(lab, updates, losses, rates=None, **kwargs):
    history = LossHistory()
    rules = RuleSet({"stalled": Stalled(history, **kwargs)}, history)
    layout = lab.stack(3)
    rates = [1e-3] * len(losses) if rates is None else rates
    at = updates if callable(updates) else lambda i: updates
    steps = [
        lab.snapshot(layout, 1.0, updates=at(i), step=i, loss=loss, lr=lr)
        for i, (loss, lr) in enumerate(zip(losses, rates, strict=True))
    ]
    return lab.play(rules, steps)


def test_tiny_updates_without_progress_are_one_alarm(lab):
    (event,) = played(lab, TINY, FLAT)
    assert (event.kind, event.severity, event.step) == ("stalled", "alarm", 99)
    assert event.message.splitlines() == [
        "weights move by 1e-8 of their norm, limit 1e-6 (median of 3)",
        "loss: no progress in 50 steps (2.3 -> 2.3)",
    ]


def test_half_of_the_parameters_may_rest(lab):
    assert played(lab, [1e-9, 1e-3, 1e-3], FLAT) == []


def test_without_a_loss_it_is_a_warning(lab):
    assert [event.severity for event in played(lab, TINY, [None] * 300)] == ["warning"]


@pytest.mark.parametrize("losses", [np.geomspace(2.3, 0.5, 300), [2.3] * 50 + [1e-3] * 250])
def test_progress_and_a_converged_loss_are_fine(lab, losses):
    assert played(lab, TINY, list(losses)) == []


def test_a_warm_up_is_waited_for(lab):
    rising = [1e-9 * i for i in range(1, 301)]
    assert played(lab, TINY, FLAT, rising) == []
    assert played(lab, TINY, FLAT, rising[:120] + [1.2e-7] * 180)[0].step == 119 + 50


def test_the_low_end_of_a_schedule_is_meant(lab):
    assert played(lab, TINY, FLAT, [1e-3] * 60 + [2.9e-4] * 240) == []
    assert len(played(lab, TINY, FLAT, [1e-3] * 60 + [3.1e-4] * 240)) == 1


def test_a_cycle_of_learning_rates_is_fine(lab):
    rates = [1e-3 * (0.5 + 0.5 * math.cos(i / 10)) for i in range(300)]
    assert played(lab, lambda i: [1e-8 if rates[i] < 2e-4 else 1e-3] * 3, FLAT, rates) == []


def test_sparse_measurements_are_enough(lab):
    assert len(played(lab, lambda i: TINY if i % 20 == 0 else None, FLAT)) == 1
    assert len(played(lab, lambda i: [TINY[0] if i % 3 == k else math.nan for k in range(3)], FLAT)) == 1


def test_the_third_measurement_tells(lab):
    for every in (60, 100):
        (event,) = played(lab, lambda i, every=every: TINY if i % every == 0 else None, FLAT)
        assert event.step == 2 * every


def test_it_is_told_again_only_after_it_moved(lab):
    def pause(middle):
        return lambda i: [middle] * 3 if i == 150 else TINY

    assert len(played(lab, pause(2e-6), FLAT)) == 1
    assert len(played(lab, pause(4e-6), FLAT)) == 2


def test_patience_waits_further_steps(lab):
    assert played(lab, TINY, FLAT, patience=11)[0].step == 109
