# SPDX-License-Identifier: Apache-2.0
"""A sample of `make chaos`, and proof that its checks can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.chaos.plan import GradientFault, Plan, draw
from benchmarks.chaos.run import run
from lightning_gradwatch.callbacks.detector import Detector
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.engine.participant import Participant

SEEDS = range(2000, 2200)
SAMPLE = [seed for seed in SEEDS if draw(seed).ranks == 1][:30]
PAIRS = [pytest.param(seed, marks=pytest.mark.ddp) for seed in SEEDS if draw(seed).ranks == 2][:3]
NAN = (GradientFault("nan", 5, 2, 0),)

FOUND = {
    "a clipper tells of hard clips, which are no findings": 179,
    "a resumed run has nothing left to do": 861,
}


@pytest.mark.parametrize("seed", [*SAMPLE, *FOUND.values(), *PAIRS])
def test_nothing_breaks_whatever_fails(seed):
    plan = draw(seed)
    assert run(plan) == [], plan


def test_the_same_seed_draws_the_same():
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]


def calm(**changes: Any) -> Plan:
    """Nothing goes wrong but what is said."""
    plan = next(plan for plan in map(draw, range(1000)) if plan.ranks == 1)
    settings = {"optimizer": "sgd", "precision": "32", "accumulate": 1, "law": "none", "action": "warn"}
    nothing = {"nonfinite": "skip", "logger": "memory", "gradients": (), "raises": None, "death": None}
    return replace(plan, **{**settings, **nothing, **changes})


def test_a_calm_run_breaks_nothing():
    assert run(calm()) == []


def test_weights_that_are_not_guarded_are_noticed(monkeypatch):
    monkeypatch.setattr(OptimizerHooks, "skip", lambda *_: None)
    assert any("not finite" in sentence for sentence in run(calm(gradients=NAN)))


def test_a_swallowed_exception_is_noticed(monkeypatch):
    from benchmarks.chaos.faults import Module

    monkeypatch.setattr(Module, "fail", lambda *_: (_ for _ in ()).throw(ValueError("another")))
    assert run(calm(raises=("module.training_step", 3))) == ["ValueError: another"]


def test_an_event_that_nobody_hears_is_noticed(monkeypatch):
    monkeypatch.setattr("lightning_gradwatch.engine.dispatch._tell_listeners", lambda *_: None)
    assert any("kept, but not heard" in sentence for sentence in run(calm(gradients=NAN)))


def test_an_event_that_is_heard_and_not_kept_is_noticed(monkeypatch):
    monkeypatch.setattr(Detector, "record_event", Participant.record_event)
    assert any("heard, but not kept" in sentence for sentence in run(calm(max_norm=0.01)))


def test_statistics_that_a_resume_loses_are_noticed(monkeypatch):
    from lightning_gradwatch import ExplosionDetector

    monkeypatch.setattr(ExplosionDetector, "recall", lambda *_: None)
    plan = calm(gradients=NAN, death=("SIGKILL", "batch start", 20))
    assert any(sentence.startswith("resumed, ") for sentence in run(plan))


def test_a_hang_is_noticed(monkeypatch):
    from time import sleep

    from benchmarks.chaos.faults import Module

    monkeypatch.setattr("benchmarks.chaos.run.TIMEOUT", 5)
    monkeypatch.setattr(Module, "die", lambda *_: sleep(60))
    assert run(calm()) == ["rank 0 has hung for 5 s"]
