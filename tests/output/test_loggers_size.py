# SPDX-License-Identifier: Apache-2.0
"""What a run costs on the disk. Files grow with logged steps: 200 of them are 10,000 steps at every 50th."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector
from lightning_gradwatch.engine.dispatch import is_kept
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.output.writer import Writer
from lightning_gradwatch.tensorboard.report import load

LAYERS, LOGGED = 300, 200
MEGABYTE = 10**6


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attention, self.linear1, self.linear2 = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.linear2(self.linear1(self.self_attention(x)).tanh())


@pytest.fixture
def deep(kit):
    class Deep(kit.pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Block() for _ in range(LAYERS // 3))

        def training_step(self, batch, batch_idx):
            x = batch[0][:, :2]
            for block in self.layers:
                x = x + 0.1 * block(x)
            loss = x.square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    return Deep()


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*tfevents*"))


@pytest.mark.slow
def test_300_layers_and_10_000_steps_take_less_than_20_megabytes(kit, deep, tmp_path):
    callbacks = [GradientNormLogger(), ExplosionDetector(), VanishingDetector(), AdaptiveClipper(), LRDecay(gamma=0.99)]
    logger = kit.pl.loggers.TensorBoardLogger(tmp_path)
    kit.fit(deep, callbacks, steps=LOGGED, loader=kit.rows(LOGGED, size=2), logger=logger)
    (run,) = load(tmp_path).values()
    assert run.histories[0].layouts.depth.size == LAYERS
    assert len(run.histories[0]) == LOGGED
    assert size(tmp_path) < 3 * MEGABYTE


def test_a_storm_of_events_that_name_all_layers_fits_in_the_rest(kit, tmp_path):
    layers = tuple(f"encoder.layers.{i}.feed_forward.projection" for i in range(LAYERS))
    writer = Writer([kit.pl.loggers.TensorBoardLogger(tmp_path)])
    for kind in (EventKind.NONFINITE, EventKind.SPIKE, EventKind.EXPLOSION, EventKind.STALLED):
        for step in filter(is_kept, range(1, 10_001)):
            where = {"step": step, "log_step": step, "epoch": 0, "batch_idx": step, "optimizer": 0}
            found = {"layers": layers, "value": 1.0, "limit": 1.0, "message": "x" * 300}
            writer.event(GradientEvent(kind, Severity.ALARM, rank=None, **where, **found))
    writer.flush()
    assert size(tmp_path) < 17 * MEGABYTE


@pytest.mark.parametrize(
    ("first", "last", "kept"), [(1, 99, 99), (100, 999, 90), (1000, 9999, 90), (10_000, 99_999, 90)]
)
def test_of_a_storm_fewer_and_fewer_events_are_kept(first, last, kept):
    assert sum(map(is_kept, range(first, last + 1))) == kept
