# SPDX-License-Identifier: Apache-2.0
"""`Rewind` under every strategy: what one process with the whole batch does, and all ranks alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import pytorch_lightning as pl

from lightning_gradwatch import ExplosionDetector, GradientNormLogger, Rewind
from lightning_gradwatch.measurement.sharding import local
from tests.strategies.cases import CASES, SINGLE, Case
from tests.strategies.harness import launch
from tests.strategies.nets import Net, Seen, fit

pytestmark = pytest.mark.ddp

HUGE = 8
"""A batch whose loss is 1e6 times what it was, so that the step replaces the weights."""


@dataclass
class Went:
    """What one rank saw: the fit, the rewinds, its part of everything at the end of each batch, by name."""

    seen: Seen
    rewinds: list[tuple[int, int]]
    parts: list[dict[str, Any]]


class Parts(pl.Callback):
    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        parts = {name: local(p).tolist() for name, p in pl_module.named_parameters()}
        for i, state in enumerate(trainer.optimizers[0].state.values()):
            parts |= {f"{i} {key}": local(value).tolist() for key, value in state.items()}
        self.parts.append(parts)


@cache
def went(case: Case) -> list[Went]:
    def work() -> Went:
        pl.seed_everything(3, verbose=False)
        back, parts = Rewind(keep_every_n_steps=2, healthy_steps=2), Parts()
        callbacks = [ExplosionDetector(), back, GradientNormLogger(), parts]
        seen = fit(Net(case.cut, {HUGE: 1e6}), callbacks, case.make(), ranks=case.ranks, batches=14)
        return Went(seen, back.rewinds, parts.parts)

    return launch(case.ranks, work)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_ruined_run_goes_back_as_one_process_does(case):
    (gold,) = went(SINGLE)
    assert gold.rewinds == [(10, 6)]
    for rank in went(case):
        assert rank.seen.error is None
        assert rank.rewinds == gold.rewinds
        for step, row in gold.seen.rows.items():
            assert rank.seen.rows[step]["grad_norm/total"] == pytest.approx(row["grad_norm/total"], rel=1e-4)


@pytest.mark.parametrize("case", [SINGLE, *CASES], ids=lambda case: case.name)
def test_each_rank_has_its_part_back_to_the_last_bit(case):
    for rank in went(case):
        assert rank.parts[9] == rank.parts[5]
        assert rank.parts[8] != rank.parts[5]
