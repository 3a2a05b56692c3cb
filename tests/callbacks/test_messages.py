# SPDX-License-Identifier: Apache-2.0
"""The console: start line, events word for word, throttling, summary. (The words of the rules: tests/rules.)"""

import logging
import math
import subprocess
import sys

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
    NormClip,
    VanishingDetector,
)

NAN = math.nan


def lines(said):
    return said().splitlines()


def test_the_start_line_says_what_is_watched_and_what_acts(kit, said):
    callbacks = [
        GradientNormLogger(),
        ExplosionDetector(action="clip"),
        VanishingDetector(action="stop"),
        AdaptiveClipper(NormClip(max_norm=0.5)),
        LRDecay(gamma=0.98),
    ]
    kit.fit(kit.net(), callbacks, steps=1)
    assert "\n".join(lines(said)[:2]) == (
        "[gradwatch] watching 3 layers (6 tensors) under SGD, SingleDevice, precision 32-true\n"
        "  acts:   clip by NormClip(max_norm=0.5); skip NaN and inf; clip on alarms; learning rate x0.98 every epoch;"
        " learning rate x0.5 after events; limit rates to updates of 0.3 of the weights; stop on vanishing"
    )


def test_watchers_say_that_they_only_watch(kit, said):
    kit.fit(kit.net(), [ExplosionDetector(nonfinite="warn"), VanishingDetector(), GradientNormLogger()], steps=1)
    assert lines(said)[1].endswith("acts:   nothing, it only watches")


def test_the_summary_counts_every_kind(kit, said):
    kit.pull([1.0] * 4 + [9.0, NAN, 9.0], [ExplosionDetector(max_norm=8.0), AdaptiveClipper(NormClip(max_norm=20))])
    told = "[gradwatch] 7 optimizer steps: 2 explosion, 1 nonfinite; step skipped at 1 step (5)"  # both found the NaN
    assert lines(said)[-1] == told


def test_nothing_to_report_is_said(kit, said):
    kit.pull([1.0] * 3, [ExplosionDetector()])
    assert lines(said)[2:] == ["[gradwatch] 3 optimizer steps: nothing to report"]


EVENTS = {
    "an absolute limit, clipped": (
        [1.0, 8.0],
        ExplosionDetector(action="clip", max_norm=2.0),
        """\
[gradwatch] ALARM explosion: step 1 (epoch 0, batch 1): grad norm 8, limit 2 (max_norm)
  where:  w 100 %
  did:    clipped x0.25; training continues
  likely: cause unknown: only max_norm was broken
  try:    1) learning rate / 3   2) clip the gradient   3) check the sign of the weight decay   [GW-07]""",
    ),
    "a spike, skipped": (
        [1.0] * 50 + [16.0],
        ExplosionDetector(action="skip"),
        """\
[gradwatch] WARNING spike: step 50 (epoch 0, batch 50): grad norm 16, limit 10 (10x the median of 50 steps)
  where:  w 100 %
  did:    step skipped, weights intact (1 of at most 5 in a row)
  likely: outlier batch: batch[0] has 16 times the rms of the first batch (loss 2 -> 32, learning rate steady)
  try:    1) look at this batch   2) clip the gradient   [GW-08]""",
    ),
    "a NaN, skipped": (
        [1.0, 1.0, 1.0, NAN],
        ExplosionDetector(),
        """\
[gradwatch] ALARM nonfinite: step 3 (epoch 0, batch 3): NaN in all 1 layers
  loss:   NaN
  did:    step skipped, weights intact (1 of at most 20 in a row)
  likely: the input: batch[0] holds 1 NaN; the loss was NaN before the backward pass
  try:    1) drop or repair the batch   2) check the loader   [GW-11]""",
    ),
    "an absolute limit below, stopped": (
        [1.0, 1e-6],
        VanishingDetector(action="stop", min_norm=1e-3),
        """\
[gradwatch] ALARM vanishing: step 1 (epoch 0, batch 1): grad norm 1e-6, limit 1e-3 (min_norm)
  where:  w 100 %
  did:    training stopped, weights from before this step
  likely: cause unknown: only min_norm was broken
  try:    1) ReLU or GELU   2) Xavier initialisation   3) residual connections and normalisation   [GW-01]""",
    ),
}


@pytest.mark.parametrize(("norms", "detector", "expected"), EVENTS.values(), ids=EVENTS)
def test_an_event_reads(kit, said, norms, detector, expected):
    kit.pull(norms, [detector], lambda p: torch.optim.SGD(p, lr=0.0))
    assert expected in said()


def test_repeats_are_counted_and_not_printed(kit, said):
    kit.pull([8.0] * 120, [ExplosionDetector(max_norm=2.0, ignore=["spike"])], lambda p: torch.optim.SGD(p, lr=0.0))
    told = [line for line in lines(said) if "ALARM explosion: step" in line]
    assert len(told) == 3
    assert [line.partition("(max_norm)")[2] for line in told] == [
        "",
        " (10 of this kind so far; they are counted, not printed)",
        " (100 of this kind so far; they are counted, not printed)",
    ]


def test_what_comes_back_after_a_long_silence_is_news(kit, said):
    norms = [8.0] + [1.0] * 501 + [8.0]
    kit.pull(norms, [ExplosionDetector(max_norm=2.0, ignore=["spike"])], lambda p: torch.optim.SGD(p, lr=0.0))
    assert said().count("ALARM explosion") == 2


def test_two_detectors_that_find_the_same_tell_it_once(kit, said):
    both = [ExplosionDetector(max_norm=2.0, name=name) for name in "ab"]
    kit.pull([8.0], both)
    assert said().count("ALARM explosion") == 1
    assert [len(detector.events) for detector in both] == [1, 1]


@pytest.mark.parametrize(("norms", "level"), [([1.0] * 50 + [16.0], "WARNING"), ([NAN], "ERROR")])
def test_the_level_of_logging_follows_the_severity(kit, caplog, norms, level):
    caplog.set_level(logging.INFO, logger="lightning_gradwatch")
    kit.pull(norms, [ExplosionDetector()])
    assert [r.levelname for r in caplog.records if r.name == "lightning_gradwatch"] == ["INFO", level, "INFO"]


def test_a_note_names_hooks_that_may_edit_gradients_after_us(kit, said):
    class Editing(kit.Lever):
        def on_before_optimizer_step(self, optimizer): ...

    kit.fit(Editing(), [ExplosionDetector()], steps=1, loader=kit.column([1.0]))
    assert any("Editing.on_before_optimizer_step may change gradients after us" in line for line in lines(said))


def test_messages_reach_the_screen_where_logging_is_not_configured():
    code = """
import torch, pytorch_lightning as pl
from torch.utils.data import DataLoader, TensorDataset
from lightning_gradwatch import ExplosionDetector
class M(pl.LightningModule):
    def __init__(self):
        super().__init__(); self.w = torch.nn.Parameter(torch.ones(4))
    def training_step(self, batch, i): return self.w.sum() * 100
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), 0.1)
t = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
               enable_model_summary=False, max_epochs=1, callbacks=[ExplosionDetector(max_norm=1.0)])
t.fit(M(), DataLoader(TensorDataset(torch.zeros(2))))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("[gradwatch]")]
    assert [line.split(":")[0] for line in ours] == [
        "[gradwatch] watching 1 layer (1 tensor) under SGD, SingleDevice, precision 32-true",
        "[gradwatch] ALARM explosion",
        "[gradwatch] 2 optimizer steps",
    ]
