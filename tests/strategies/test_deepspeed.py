# SPDX-License-Identifier: Apache-2.0
"""DeepSpeed, ZeRO 0 to 3, against one process; where its engine decides, we say so."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import pytest
import pytorch_lightning as pl

from lightning_gradwatch import (
    ExplosionDetector,
    LRDecay,
    NormClip,
    Rewind,
    VanishingDetector,
    ZScoreClip,
)
from tests.strategies.cases import SINGLE
from tests.strategies.harness import launch
from tests.strategies.nets import Net, Seen, fit
from tests.strategies.test_everywhere import SPIKE, Scenario, acting, clipped, differences, watched

pytestmark = [
    pytest.mark.ddp,
    pytest.mark.skipif(
        find_spec("deepspeed") is None,
        reason="needs DeepSpeed: DS_ACCELERATOR=cpu DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed",
    ),
]

STAGES = (0, 1, 2, 3)
SCENARIOS = {
    "norm": clipped(NormClip(max_norm=0.5)),
    # ZeRO's engine clips by one norm, so that there is no bound on the updates there; nor in what it is held against.
    "percentile": clipped("percentile", max_update_ratio=None),
    "zscore": clipped(ZScoreClip(z=1.0, warmup_steps=2), max_update_ratio=None),
    "clip": acting(action="clip", max_norm=0.3),
    "largest": acting(action="clip", max_abs=0.2),
    "stop": acting(action="stop", max_norm=20.0),
    "abort": acting(action="abort", max_norm=20.0),
    "abort_nan": acting(nonfinite="abort"),
    "back_off": Scenario(
        lambda: watched(
            ExplosionDetector(),
            LRDecay(on=["nonfinite"], cooldown_steps=0, hold_steps=1, rewarm_steps=2, patience=1),
        )
    ),
}
REFUSED = {
    "value": (clipped("value"), "cannot apply ValueClip"),
    "unitwise": (clipped("unitwise"), "cannot apply UnitwiseClip"),
    "group": (clipped("norm", per="group"), "`per`, `include` and `exclude`"),
    "skip": (acting(action="skip"), "takes every step whose gradient is finite"),
    "rewind": (
        Scenario(lambda: watched(ExplosionDetector(), Rewind(keep_every_n_steps=2, healthy_steps=1)), {SPIKE: 1e6}),
        "Rewind cannot work under DeepSpeed's ZeRO",
    ),
    "part": (acting(action="clip", include="b.*"), "Leave `include` and `exclude` out"),
}
ACCUMULATE = Scenario(lambda: watched(VanishingDetector(), ExplosionDetector()), {}, {"accumulate_grad_batches": 2})


def run(scenario: Scenario, stage: int | None) -> Seen:
    from tests.strategies.deepspeed_cpu import make

    pl.seed_everything(3, verbose=False)
    module = Net(None, scenario.factors)
    strategy, ranks = ("auto", 1) if stage is None else (make(stage), 2)
    return fit(module, scenario.callbacks(), strategy, ranks=ranks, **scenario.settings)


@cache
def seen(stage: int | None) -> list[dict[str, Seen]]:
    """What each rank saw of each scenario; None for one process."""
    scenarios = {**SCENARIOS, "accumulate": ACCUMULATE, **{name: scenario for name, (scenario, _) in REFUSED.items()}}
    return launch(
        (stage is not None and 2) or 1, lambda: {name: run(scenario, stage) for name, scenario in scenarios.items()}
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("stage", STAGES)
def test_the_numbers_and_decisions_are_those_of_one_process(stage, scenario):
    gold = seen(None)[0][scenario]
    for record in (ranks[scenario] for ranks in seen(stage)):
        assert (record.error or "").split(":")[0] == (gold.error or "").split(":")[0], record.error
        assert (record.steps, record.heard, record.rates) == (gold.steps, gold.heard, gold.rates)
        assert [event[:3] + event[4:] for event in record.events] == [event[:3] + event[4:] for event in gold.events]
        assert differences(record, gold, SINGLE) == []


@pytest.mark.parametrize("stage", STAGES)
def test_under_accumulation_only_the_boundaries_count(stage):
    gold = seen(None)[0]["accumulate"]
    for record in (ranks["accumulate"] for ranks in seen(stage)):
        assert record.error is None
        assert list(record.rows) == list(gold.rows)
        assert record.steps == gold.steps == 4


@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.parametrize("stage", STAGES[1:])
def test_what_the_engine_cannot_do_is_refused_before_the_first_step(stage, refused):
    for record in (ranks[refused] for ranks in seen(stage)):
        assert record.steps == 0
        assert REFUSED[refused][1] in str(record.error)


@pytest.mark.parametrize("scenario", REFUSED)
def test_without_zero_nothing_is_refused_and_all_is_as_in_one_process(scenario):
    gold = seen(None)[0][scenario]
    for record in (ranks[scenario] for ranks in seen(0)):
        assert record.error is None
        assert record.steps == gold.steps
        assert differences(record, gold, SINGLE) == []
