# SPDX-License-Identifier: Apache-2.0
"""What a TensorBoardLogger gets beside scalars: texts and histograms."""

import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_gradwatch import ExplosionDetector, GradientNormLogger


def read(path):
    board = EventAccumulator(str(next(path.rglob("events.out*")).parent), {"scalars": 0, "tensors": 0, "histograms": 0})
    board.Reload()
    return board


def test_scalars_reach_the_file_with_their_steps(kit, tmp_path):
    kit.pull([1.0, 2.0, 3.0], [GradientNormLogger()], logger=kit.pl.loggers.TensorBoardLogger(tmp_path))
    points = [(p.step, p.value) for p in read(tmp_path).Scalars("grad_norm/total")]
    assert points == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_histograms_survive_nan_and_empty_tensors(kit, tmp_path):
    class Odd(kit.Lever):
        def __init__(self):
            super().__init__()
            self.nan, self.empty = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(0, 2))
            self.short = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
            self.both = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))

        def training_step(self, batch, batch_idx):
            odd = (self.nan * math.nan).sum() + self.empty.sum() + self.short.sum() + self.both.real.sum()
            return super().training_step(batch, batch_idx) + odd

    board = kit.pl.loggers.TensorBoardLogger(tmp_path)
    callbacks = [GradientNormLogger(histograms_every_n_steps=2), ExplosionDetector()]
    kit.fit(Odd(), callbacks, steps=4, loader=kit.column([2.0] * 4), logger=board)
    written = read(tmp_path)
    assert set(written.Tags()["histograms"]) == {f"grad_histogram/{name}" for name in ("w", "short", "both")}
    found = written.Histograms("grad_histogram/w")
    assert [(h.step, h.histogram_value.num, h.histogram_value.min) for h in found] == [(1, 4, 1.0), (3, 4, 1.0)]


def test_an_event_is_a_text_with_evidence_and_remedies(kit, tmp_path):
    board = kit.pl.loggers.TensorBoardLogger(tmp_path)
    kit.pull([1.0, 8.0, 8.0], [ExplosionDetector(max_norm=2.0)], logger=board)
    written = read(tmp_path)
    (tag,) = [tag for tag in written.Tags()["tensors"] if tag.startswith("grad_event/explosion")]
    (text,) = written.Tensors(tag)  # repeats are counted
    assert text.step == 1
    assert text.tensor_proto.string_val[0].decode() == (
        "### ALARM explosion: grad norm 8, limit 2 (max\\_norm)\n\n"
        "step 1, epoch 0, batch 1\n\n"
        "* where: w 100 %\n"
        '* did: nothing (action="warn")\n'
        "* likely: cause unknown: only max\\_norm was broken\n\n"
        "try, cheapest first:\n\n"
        "1. learning rate / 3 (GW-07; Cohen 2021)\n"
        "2. clip the gradient (GW-07; Cohen 2021)\n"
        "3. check the sign of the weight decay (GW-07; Cohen 2021)"
    )
    assert [(p.step, p.value) for p in written.Scalars("grad_event/explosion")][-1] == (2, 2.0)


@pytest.mark.parametrize("kind", ["CSVLogger", None])
def test_a_logger_that_takes_no_text_is_no_error(kit, tmp_path, kind):
    detector = ExplosionDetector(max_norm=2.0)
    kit.pull([8.0], [detector], logger=False if kind is None else getattr(kit.pl.loggers, kind)(tmp_path))
    assert len(detector.events) == 1
