# SPDX-License-Identifier: Apache-2.0
"""TensorBoard's own tabs: the page of charts, the heat map as an image."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from lightning_gradwatch import ExplosionDetector, GradientNormLogger
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.output import writer
from lightning_gradwatch.output.layout import LAYOUT
from lightning_gradwatch.snapshot import GradientSnapshot
from lightning_gradwatch.snapshot import ParameterInfo as Parameters
from lightning_gradwatch.tensorboard.report import load

LAYOUT_TAG, PICTURE = "custom_scalars__config__", "grad_heatmap/norm"
YELLOW, BLUE, PINK, GREY = (253, 231, 37), (68, 1, 84), (255, 59, 107), (107, 107, 118)


@pytest.fixture
def board(kit, tmp_path):
    return kit.pl.loggers.TensorBoardLogger(tmp_path)


def read(board):
    events = EventAccumulator(board.log_dir, {"images": 0, "tensors": 0})
    events.Reload()
    return events


def titles(board):
    """The categories of each layout in the run, the first written first."""
    layouts = [Layout.FromString(found.tensor_proto.string_val[0]) for found in read(board).Tensors(LAYOUT_TAG)]
    return [[category.title for category in layout.category] for layout in layouts]


def test_the_page_of_charts_is_laid_out_once(kit, board):
    for _ in range(2):  # the second fit goes on in the same run
        kit.pull([1.0] * 3, [GradientNormLogger()], logger=board)
    assert titles(board) == [list(LAYOUT)]


def test_a_layout_of_the_users_own_is_left_alone(kit, board):
    board.experiment.add_custom_scalars({"mine": {"loss": ["Multiline", ["loss"]]}})
    kit.pull([1.0] * 3, [GradientNormLogger()], logger=board)
    assert titles(board) == [["mine"]]


def test_where_nothing_is_logged_there_is_neither_layout_nor_picture(kit, board):
    kit.pull([1.0] * 3, [ExplosionDetector()], logger=board)
    assert {LAYOUT_TAG, PICTURE}.isdisjoint([*read(board).Tags()["tensors"], *read(board).Tags()["images"]])


def test_the_heat_map_comes_at_the_end_and_before_that_at_each_doubling(kit, board, monkeypatch):
    monkeypatch.setattr(writer, "FIRST_PICTURE", 4)
    kit.pull([1.0] * 10, [GradientNormLogger()], logger=board)
    assert [image.step for image in read(board).Images(PICTURE)] == [3, 7, 9]


def test_an_aborted_run_has_its_heat_map_too(kit, board):
    with pytest.raises(Exception, match="explosion"):
        kit.pull([1.0, 8.0], [GradientNormLogger(), ExplosionDetector(action="abort", max_norm=2.0)], logger=board)
    assert [image.step for image in read(board).Images(PICTURE)] == [1]


def test_two_optimizers_have_a_heat_map_each(kit, board):
    class Two(kit.Net):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(super().training_step(batch, batch_idx))
                optimizer.step()

        def configure_optimizers(self):
            return [self.make_optimizer(self.net[i].parameters()) for i in (0, 3)]

    kit.fit(Two(), [GradientNormLogger()], steps=4, logger=board)
    assert set(read(board).Tags()["images"]) == {f"{PICTURE}/opt0", f"{PICTURE}/opt1"}


def test_a_picture_that_cannot_be_drawn_is_said_once_and_the_training_goes_on(kit, board, monkeypatch, said):
    def fail(*_):
        raise MemoryError("too large")

    monkeypatch.setattr("lightning_gradwatch.output.picture.draw", fail)
    trace = kit.pull([1.0] * 3, [GradientNormLogger()], logger=board)
    assert trace.trainer.global_step == 3
    assert said().count("failed to write heat maps (MemoryError: too large); the training goes on without them.") == 1


def test_without_pillow_there_is_no_picture_and_no_complaint(kit, board, monkeypatch, said):
    monkeypatch.setattr(writer, "find_spec", lambda name: None)
    kit.pull([1.0] * 3, [GradientNormLogger()], logger=board)
    assert read(board).Tags()["images"] == []
    assert "failed" not in said()


@pytest.mark.parametrize("late", [False, True], ids=["at once", "a step late, as on CUDA"])
def test_the_step_of_an_event_is_recorded_though_it_is_not_logged(kit, board, monkeypatch, late):
    if late:
        monkeypatch.setattr(OptimizerHooks, "on_cuda", property(lambda watch: True))
    detector = ExplosionDetector(max_norm=2.0, nonfinite="warn")
    kit.pull([1.0, 8.0, 1.0, 1.0, 1.0], [GradientNormLogger(), detector], logger=board, log_every_n_steps=4)
    history = load(Path(board.log_dir))["."].histories[0]
    assert dict(zip(history.steps.tolist(), history.series("total").tolist(), strict=True)) == {1: 8.0, 3: 1.0}


def snapshot(step, norms):
    layout = Parameters(tuple(f"net.{i}.weight" for i in range(len(norms))), ((2, 2),) * len(norms))
    return GradientSnapshot(layout, np.array(norms), np.ones(len(norms), dtype=bool), log_step=step)


def cells(image, rows, columns):
    """The colour in the middle of each cell of the map, which is 600 x 400 pixels."""
    x = [190 + int((column + 0.5) * 600 / columns) for column in range(columns)]
    y = [28 + int((row + 0.5) * 400 / rows) for row in range(rows)]
    return [[image.getpixel((left, top)) for left in x] for top in y]


def test_the_picture_has_a_cell_for_each_layer_and_step(board):
    log = writer.Writer([board])
    for step, norms in enumerate([[1.0, 100.0], [100.0, 1.0], [math.nan, 0.0]]):
        log.record(snapshot(step, norms), None, None, total_clipped=1.0)
    log.flush()
    (picture,) = read(board).Images(PICTURE)
    image = Image.open(io.BytesIO(picture.encoded_image_string))
    assert cells(image, rows=2, columns=3) == [[BLUE, YELLOW, PINK], [YELLOW, BLUE, GREY]]


def test_a_picture_without_any_finite_norm_is_drawn_too(board):
    log = writer.Writer([board])
    log.record(snapshot(0, [math.nan, 0.0]), None, None, total_clipped=1.0)
    log.flush()
    (picture,) = read(board).Images(PICTURE)
    image = Image.open(io.BytesIO(picture.encoded_image_string))
    assert cells(image, rows=2, columns=1) == [[PINK], [GREY]]


def test_the_picture_of_many_layers_and_steps_is_no_larger(board):
    log = writer.Writer([board])
    for step in range(600):
        log.record(snapshot(step, np.random.default_rng(step).lognormal(size=400)), None, None, total_clipped=1.0)
    log.flush()
    last = read(board).Images(PICTURE)[-1]
    assert (last.width, last.height) == (874, 456)
    assert len(last.encoded_image_string) < 150_000
