# SPDX-License-Identifier: Apache-2.0
"""A run that is resumed, from whichever step, ends with the same bits as one that was never interrupted."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    GradwatchError,
    LRDecay,
    NormClip,
    PercentileClip,
    UnitwiseClip,
    ValueClip,
    VanishingDetector,
    ZScoreClip,
)

EPOCH, STEPS = 12, 27
KILLS = (1, 7, 9, EPOCH, 15)
"""Before anything is learned; between two outliers; with a diagnosis under way; at an epoch's end; in the second."""

LAWS: dict[str, Any] = {
    "no law": None,
    "norm": NormClip(max_norm=0.5),
    "value": ValueClip(value=0.05),
    "percentile": PercentileClip(window=8),
    "zscore": ZScoreClip(z=1.0, warmup_steps=4),
    "unitwise": UnitwiseClip(),
}
ACTIONS: dict[str, dict[str, Any]] = {
    "warn": {"action": "warn", "nonfinite": "skip"},
    "clip": {"action": "clip", "max_norm": 40.0},
    "skip": {"action": "skip", "max_norm": 40.0, "patience": 2},
    "stop": {"action": "stop", "max_norm": 40.0, "patience": 2},
    "abort": {"action": "abort", "max_norm": 40.0, "patience": 2},
    "stop at NaN": {"nonfinite": "stop"},
    "abort at NaN": {"nonfinite": "abort"},
}


def callbacks(law: str, action: str) -> list[Any]:
    clip = LAWS[law]
    return [
        GradientNormLogger(),
        ExplosionDetector(**{"window": 10, "warmup_steps": 3, **ACTIONS[action]}),
        VanishingDetector(window=10, dead_steps=6, stall_ratio=0.5),
        LRDecay(gamma=0.9, every=7, on=["spike", "explosion"], cooldown_steps=1, hold_steps=2, rewarm_steps=9),
        *([] if clip is None else [AdaptiveClipper(clip), AdaptiveClipper(clip, per="group", name="group")]),
    ]


def batches(kit: Any) -> Any:
    loader = kit.rows(EPOCH)
    x, y = loader.dataset.tensors
    y[6 * 8 : 8 * 8] *= 1e3
    x[10 * 8] = nan
    return loader


def run(kit, law, action, folder, ckpt_path=None, *, optimizer=None):
    """The whole checkpoint after the run, and how it ended; checkpoints of the steps in KILLS are left in `folder`."""

    class Steady(kit.Net):
        def training_step(self, batch, batch_idx):
            torch.manual_seed(self.trainer.global_step)  # Lightning does not resume the generator of dropout
            return super().training_step(batch, batch_idx)

    class Save(kit.pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step in KILLS and ckpt_path is None:
                trainer.save_checkpoint(folder / f"{trainer.global_step}.ckpt")

    torch.manual_seed(1)
    module = Steady(optimizer or (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)))
    used, ending = callbacks(law, action), ""
    trainer = kit.trainer([*used, Save()], STEPS)
    try:
        trainer.fit(module, batches(kit), ckpt_path=ckpt_path)
    except GradwatchError as error:
        ending = str(error)
    trainer.save_checkpoint(folder / "end.ckpt")
    end = torch.load(folder / "end.ckpt", weights_only=True)
    kept = ("callbacks", "state_dict", "optimizer_states", "global_step", "lightning_gradwatch")
    return {"ending": ending, **{key: end[key] for key in (*kept, "lightning_gradwatch_looks")}}


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two nests of plain types and tensors differ, bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [line for key in a for line in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [line for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in differences(x, y, f"{path}[{i}]")]
    if isinstance(a, torch.Tensor):
        return [] if isinstance(b, torch.Tensor) and torch.equal(a, b) else [path]
    return [] if repr(a) == repr(b) else [f"{path}: {a!r} != {b!r}"]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("law", LAWS)
def test_a_run_resumed_at_any_step_ends_with_the_same_bits(kit, tmp_path, law, action):
    whole = run(kit, law, action, tmp_path)
    turn = list(LAWS).index(law) + list(ACTIONS).index(action)  # all steps with each law, and with each action
    checkpoints = [path for path in (tmp_path / f"{step}.ckpt" for step in KILLS) if path.exists()]
    for i in {turn % len(checkpoints), (turn + 2) % len(checkpoints)}:
        assert differences(run(kit, law, action, tmp_path, checkpoints[i]), whole) == [], checkpoints[i].name


def test_a_checkpoint_written_after_the_fit_is_that_of_its_last_step(kit, tmp_path):
    class Save(kit.pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.save_checkpoint(tmp_path / "within.ckpt")

    used = callbacks("zscore", "skip")[1:]  # without the logger, whose epoch is over after the fit
    trainer = kit.fit(kit.net(), [*used, Save()], 9, batches(kit))
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    within, after = (torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("within", "after"))
    for key in ("callbacks", "lightning_gradwatch", "lightning_gradwatch_looks"):
        assert differences(after[key], within[key]) == []
    assert after["lightning_gradwatch_looks"]["requests"]  # a diagnosis is under way


@pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=")  # Lightning's own, which takes it for a ModelCheckpoint
def test_a_checkpoint_that_lightning_writes_on_an_exception_is_resumed_exactly(kit, tmp_path):
    class Interrupt(kit.pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 9:
                raise KeyError("the power failed")

    def fit(*more, **settings):
        module, used = kit.net(), callbacks("zscore", "skip")
        module.net[2] = torch.nn.Identity()  # no dropout, whose generator Lightning does not resume
        trainer = kit.trainer([*used, *more], STEPS, enable_checkpointing=bool(more))
        trainer.fit(module, batches(kit), **settings)
        return kit.flat(module), used[1].events

    whole = fit()
    with pytest.raises(KeyError):
        fit(Interrupt(), kit.pl.callbacks.OnExceptionCheckpoint(tmp_path))
    weights, events = fit(ckpt_path=tmp_path / "on_exception.ckpt")
    assert torch.equal(weights, whole[0])
    assert events == whole[1]
