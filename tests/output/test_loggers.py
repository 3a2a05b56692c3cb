# SPDX-License-Identifier: Apache-2.0
"""The same scalars in loggers other than TensorBoard's, and nothing but scalars."""

from __future__ import annotations

import csv
import math

import pytest

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
    NormClip,
    VanishingDetector,
)

NORMS = [1.0, 2.0, 64.0, 1.0, math.nan, 1.0]  # clipped at step 2, skipped at step 4


def callbacks():
    return [
        GradientNormLogger(histograms_every_n_steps=1),
        ExplosionDetector(max_norm=50.0),
        VanishingDetector(),
        AdaptiveClipper(NormClip(max_norm=8.0)),
        LRDecay(gamma=0.5, every=1),
    ]


@pytest.fixture
def expected(kit):
    """What a logger that keeps everything gets."""
    log = kit.Memory()
    kit.pull(NORMS, callbacks(), logger=log)
    assert log.points["grad_norm/total_clipped"][2] == pytest.approx(8.0)
    assert log.points["grad_event/explosion"] == {2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0}
    return {tag: points for tag, points in log.points.items() if tag.startswith("grad_")}


def run(kit, logger, said):
    kit.pull(NORMS, callbacks(), logger=logger)
    logger.finalize("success")
    assert "failed to write" not in said()


def test_csv(kit, tmp_path, expected, said):
    logger = kit.pl.loggers.CSVLogger(tmp_path)
    run(kit, logger, said)
    found = {}
    with open(f"{logger.log_dir}/metrics.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for tag, value in row.items():
                if tag.startswith("grad_") and value:
                    found.setdefault(tag, {})[int(row["step"])] = float(value)
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        assert found[tag] == pytest.approx(points, nan_ok=True)


@pytest.mark.filterwarnings("ignore")  # MLflow's own, about what it calls in SQLAlchemy
def test_mlflow(kit, tmp_path, expected, said):
    pytest.importorskip("mlflow", reason="mlflow is not installed: it has 70 dependencies")
    logger = kit.pl.loggers.MLFlowLogger(tracking_uri=f"sqlite:///{tmp_path}/runs.db", artifact_location=str(tmp_path))
    run(kit, logger, said)
    for tag, points in expected.items():
        history = logger.experiment.get_metric_history(logger.run_id, tag)
        assert {point.step: point.value for point in history} == pytest.approx(points, nan_ok=True)


@pytest.mark.filterwarnings("ignore")
def test_wandb(kit, tmp_path, expected, said):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    logger = kit.pl.loggers.WandbLogger(save_dir=tmp_path, offline=True)
    run(kit, logger, said)
    last = dict(logger.experiment.summary)
    wandb.finish()
    for tag, points in expected.items():
        assert last[tag] == pytest.approx(points[max(points)], nan_ok=True)
