# SPDX-License-Identifier: Apache-2.0
"""A run that is resumed goes on as if it had not been interrupted, on every strategy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from math import nan
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
    NormClip,
    PercentileClip,
    UnitwiseClip,
    ValueClip,
    VanishingDetector,
    ZScoreClip,
)
from lightning_gradwatch.laws import ZClip
from tests.strategies.cases import CASES, SINGLE, Case
from tests.strategies.harness import launch
from tests.strategies.nets import BATCHES, Net, Seen, fit

pytestmark = pytest.mark.ddp


PAIRS: list[tuple[Any, dict[str, Any]]] = [  # each law, each action
    (NormClip(max_norm=0.5), {"action": "warn"}),
    (ValueClip(value=0.05), {"action": "clip", "max_norm": 5.0}),
    (PercentileClip(window=8), {"action": "skip", "max_norm": 5.0}),
    (UnitwiseClip(), {"action": "stop", "max_norm": 5.0, "patience": 2}),
    (ZClip(), {"action": "abort", "max_norm": 5.0, "patience": 2}),
]


def callbacks(law: Any = None, settings: dict[str, Any] | None = None) -> list[Any]:
    return [
        GradientNormLogger(),
        ExplosionDetector(**settings or {"action": "clip", "max_norm": 5.0}),
        VanishingDetector(window=10),
        AdaptiveClipper(law or ZScoreClip(z=1.0, warmup_steps=2)),
        LRDecay(on=["nonfinite", "explosion"], cooldown_steps=0, hold_steps=3, rewarm_steps=20, patience=1),
    ]


def interrupted(case: Case, folder: Path, used: Callable[[], list[Any]] = callbacks) -> tuple[Seen, Seen]:
    """Two epochs in one go, and the second one alone from the checkpoint of the first."""

    def run(ckpt_path: Path | None) -> Seen:
        pl.seed_everything(3, verbose=False)
        keep = [] if ckpt_path else [ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1)]
        module = Net(case.cut, {3: nan, 5: 100.0})
        settings = {"max_epochs": 2, "enable_checkpointing": bool(keep)}
        return fit(module, [*used(), *keep], case.make(), ranks=case.ranks, ckpt_path=ckpt_path, **settings)

    return run(None), run(folder / "epoch=0.ckpt")


def check(ranks: list[tuple[Seen, Seen]]) -> None:
    for whole, resumed in ranks:
        assert whole.error is None
        assert resumed.error is None
        assert resumed.steps == whole.steps == 2 * BATCHES
        later = {step: row for step, row in whole.rows.items() if step >= BATCHES}
        for step, row in later.items():
            assert repr(sorted(resumed.rows[step].items())) == repr(sorted(row.items())), step
        assert resumed.events == whole.events
        assert resumed.rates == whole.rates


# Without us too, torch 2.13 loses half of the momentum of HYBRID_SHARD in a sharded checkpoint on a CPU.
@pytest.mark.parametrize("case", [c for c in (SINGLE, *CASES) if c.name != "fsdp1_hybrid"], ids=lambda case: case.name)
def test_a_resumed_run_shows_exactly_what_an_uninterrupted_one_shows(case, tmp_path):
    check(launch(case.ranks, partial(interrupted, case, tmp_path)))


def test_with_each_law_and_each_action_too(tmp_path):
    case = next(case for case in CASES if case.name == "ddp")

    def work() -> list[tuple[Seen, Seen]]:
        pairs = enumerate(PAIRS)
        return [interrupted(case, tmp_path / str(i), partial(callbacks, law, action)) for i, (law, action) in pairs]

    for results in launch(2, work):
        for whole, resumed in results:
            assert resumed.error == whole.error
            assert resumed.steps == whole.steps
            assert resumed.events == whole.events
            for step, row in whole.rows.items():
                if step >= BATCHES:
                    assert repr(sorted(resumed.rows[step].items())) == repr(sorted(row.items())), step


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs DeepSpeed, see test_deepspeed.py")
@pytest.mark.parametrize("stage", range(4))
def test_a_resumed_run_under_deepspeed_does_too(stage, tmp_path):
    def work() -> tuple[Seen, Seen]:
        from tests.strategies.deepspeed_cpu import make

        return interrupted(Case("deepspeed", 2, lambda: make(stage)), tmp_path)

    check(launch(2, work))


class Fading(pl.LightningModule):
    """The first layer's gradient is 1e-5 of the last one's. The loss falls on rank 0, rises on rank 1: a flat mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        slope = (1 if self.global_rank else -1) * (self.trainer.world_size > 1)
        level = 100.0 + slope * self.trainer.global_step
        value: Tensor = 1e-5 * self.first.weight.sum() + self.last.weight.sum()
        return value - value.detach() + level

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("every", [24, 8], ids=["in one go", "resumed twice"])
def test_a_verdict_that_needs_the_loss_is_the_same_on_ranks_whose_losses_differ(every, tmp_path):
    def work() -> Seen:
        path = None
        for epochs in range(1, 24 // every + 1):
            detector = VanishingDetector(window=10)
            keep = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", save_top_k=-1)
            strategy = DDPStrategy(process_group_backend="gloo")
            seen = fit(
                Fading(),
                [detector, keep],
                strategy,
                ranks=2,
                ckpt_path=path,
                batches=every,
                max_epochs=epochs,
                enable_checkpointing=True,
            )
            path = tmp_path / f"epoch={epochs - 1}.ckpt"
        return seen

    for seen in launch(2, work):
        assert seen.error is None
        assert [event[:3] + event[4:5] for event in seen.events if event[:2] == ("vanishing", "alarm")] == [
            ("vanishing", "alarm", 19, ("first",))
        ]
