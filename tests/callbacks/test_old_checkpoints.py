# SPDX-License-Identifier: Apache-2.0
"""A run that an earlier version began goes on in this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
    NormClip,
    PercentileClip,
    UnitwiseClip,
    VanishingDetector,
)

DATA = Path(__file__).parents[1] / "data"
BATCHES, NAN_AT = 24, 22


def callbacks() -> list[Any]:
    """All five, with laws of every kind; the arguments are those of the checkpoints and must not change."""
    return [
        GradientNormLogger(),
        ExplosionDetector(action="skip", max_norm=50.0),
        VanishingDetector(window=10),
        AdaptiveClipper(name="zscore"),
        AdaptiveClipper(PercentileClip(window=16), per="group", name="percentile"),
        AdaptiveClipper(NormClip(max_norm=3.0), name="norm"),
        AdaptiveClipper(UnitwiseClip(), name="unitwise"),
        LRDecay(gamma=0.99, every=4, cooldown_steps=2, hold_steps=3, rewarm_steps=20),
    ]


def batches(kit: Any) -> Any:
    """An outlier at batch 15, and a NaN at batch 22, whose diagnosis is under way when the checkpoint is written."""
    loader = kit.rows(BATCHES)
    x, y = loader.dataset.tensors
    y[15 * 8 : 16 * 8] *= 1e4
    x[NAN_AT * 8] = torch.nan
    return loader


def facts(callbacks: list[Any]) -> dict[str, Any]:
    """What must have survived, read through nothing but the public attributes."""
    events = [[e.kind.value, e.severity.value, e.step] for c in callbacks for e in getattr(c, "events", [])]
    return {"events": events, "counts": [c.counts for c in callbacks]}


def write(kit, version):
    """Writes the checkpoint of this version; run once, by hand, before a release that changes the state."""

    class Save(kit.pl.callbacks.Checkpoint):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(DATA / f"state-{version}.ckpt")

    used = callbacks()
    kit.fit(kit.net(momentum), [*used, Save()], -1, batches(kit), max_epochs=1, enable_checkpointing=True)
    (DATA / f"state-{version}.json").write_text(json.dumps(facts(used)))


def momentum(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


@pytest.mark.parametrize("path", sorted(DATA.glob("state-*.ckpt")), ids=lambda path: path.stem)
def test_a_checkpoint_of_an_earlier_version_loads_and_continues(kit, path):
    before = json.loads(path.with_suffix(".json").read_text())
    assert {kind for kind, _, _ in before["events"]} >= {"explosion", "nonfinite"}

    class Loaded(kit.pl.Callback):
        def on_train_start(self, trainer, pl_module):
            self.facts = json.loads(json.dumps(facts(used)))

    used, loaded, module, memory = callbacks(), Loaded(), kit.net(momentum), kit.Memory()
    settings = {"ckpt_path": path, "max_epochs": 2, "logger": memory}
    trainer = kit.fit(module, [*used, loaded], -1, batches(kit), **settings)
    assert loaded.facts == before
    first = {tag: points[BATCHES] for tag, points in memory.points.items() if BATCHES in points}
    assert first["grad_lr/scale"] < 0.9  # backed off, where gamma alone were 0.99**6 = 0.94
    assert sum(tag.startswith("grad_clip/threshold") for tag in first) == 3  # limits that need a past are in force
    assert trainer.global_step == 2 * BATCHES
    assert kit.flat(module).isfinite().all()
    steps = [event.step for event in used[1].events if event.kind == "nonfinite"]
    assert (steps[0], steps[-1]) == (NAN_AT, BATCHES + NAN_AT)
