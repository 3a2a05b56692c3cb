# SPDX-License-Identifier: Apache-2.0
"""The examples run as a user runs them, and end as the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.slow


class Run:
    """What one example left behind: `table` by the first word of each row, `said`, and `folder`."""

    def __init__(self, name: str, folder: Path) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "GRADWATCH"}
        command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        self.folder, self.said, self.printed = folder, done.stderr, done.stdout
        rows = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines() if "  " in line]
        self.table = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:] if len(row) == len(rows[0])}

    def board(self, run: str) -> EventAccumulator:
        """Everything that one run wrote for TensorBoard."""
        (log,) = self.folder.glob(f"runs/{run}/version_0")
        return EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()


@pytest.fixture(scope="module")
def explosion(tmp_path_factory):
    return Run("explosion", tmp_path_factory.mktemp("explosion"))


@pytest.fixture(scope="module")
def vanishing(tmp_path_factory):
    return Run("vanishing", tmp_path_factory.mktemp("vanishing"))


@pytest.fixture
def run(tmp_path):
    return lambda name: Run(name, tmp_path)


def test_the_vanishing_gradient_of_a_generator_is_told_and_the_better_loss_has_none(run):
    gan = run("gan")
    assert gan.table["saturating"]["found"].startswith("vanishing at step ")
    assert gan.table["non-saturating"]["found"] == "nothing"
    assert float(gan.table["saturating"]["generator"]) < 1e-2 < float(gan.table["non-saturating"]["generator"])
    assert {"grad_norm/total/opt0", "grad_norm/total/opt1"} <= set(gan.board("gan/saturating").Tags()["scalars"])


def test_the_lstm_whose_gradient_explodes_learns_with_the_callbacks(run):
    lstm = run("lstm")
    assert float(lstm.table["bare"]["last loss"]) > 4.85  # guessing among 128
    assert float(lstm.table["gradwatch"]["last loss"]) < 4.5
    assert max(point.value for point in lstm.board("lstm/gradwatch").Scalars("grad_clip/rate")) > 0.1


def test_both_mistakes_of_the_resnet_are_named(run):
    resnet = run("resnet")
    assert resnet.table["mistaken"]["found"] == "disconnected, not_updated"
    assert resnet.table["mended"]["found"] == "nothing"
    assert "\nnot_updated: head\n" in resnet.printed
    assert "\ndisconnected: stem.0, stem.1" in resnet.printed


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers: pip install --group models")
def test_gpt_2_learns_once_the_learning_rate_gives_way(run):
    gpt2 = run("gpt2")
    assert float(gpt2.table["bare"]["last loss"]) > 3.2  # how frequent each letter is
    assert float(gpt2.table["gradwatch"]["last loss"]) < 3.1
    assert gpt2.table["gradwatch"]["events"] == "update_too_large"


def percent(cell: str) -> float:
    return float(cell.rstrip("%"))


def shape(text: str) -> list[list[str]]:
    """The lines of a text without their numbers, which differ from processor to processor."""
    return [re.sub(r"[\d.]+(e[-+]?\d+)?", "#", line).split() for line in text.strip().splitlines()]


def test_the_bare_run_explodes_to_nan(explosion):
    assert explosion.table["bare"]["last loss"] == "nan"
    assert explosion.table["bare"]["weights"] == "NaN"


def test_the_callbacks_rescue_the_same_run(explosion):
    rescued = explosion.table["gradwatch"]
    assert percent(rescued["test accuracy"]) > 95
    assert rescued["weights"] == "all finite"
    assert "spike" in rescued["events"]


def test_the_readme_shows_what_the_first_example_says(explosion):
    message, table = re.findall(r"^```text\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)[:2]
    told = shape(explosion.said)
    assert [line for line in shape(message) if line not in told] == []
    assert [line for line in shape(table) if line not in shape(explosion.printed)] == []


def test_tensorboard_shows_the_rescued_run(explosion):
    board = explosion.board("explosion/gradwatch")
    scalars = {tag: board.Scalars(tag) for tag in board.Tags()["scalars"]}
    steps = {point.step for point in scalars["grad_norm/total"]}
    out_of_turn = steps - {point.step for point in scalars["train_loss"]}
    assert {point.step for point in scalars["train_loss"]} <= steps
    assert 1 <= len(out_of_turn) <= 5  # the steps of the spikes
    assert max(point.value for point in scalars["grad_norm/total"]) > 1e3
    assert "grad_event/spike/text_summary" in board.Tags()["tensors"]


def test_the_deep_sigmoid_net_is_diagnosed_by_name_and_number(vanishing):
    found = re.search(
        r"ALARM vanishing: .*gradient shrinks x(0\.\d+) per layer from net\.20 .* to net\.0 ", vanishing.said
    )
    assert found is not None
    assert float(found[1]) < 0.25
    assert "The gradient hardly reaches net.0, net.2, net.4" in vanishing.printed
    assert percent(vanishing.table["sigmoid"]["test accuracy"]) < 25


def test_the_remedied_net_learns_and_nothing_is_found(vanishing):
    assert percent(vanishing.table["remedied"]["test accuracy"]) > 95
    assert vanishing.table["remedied"]["alarms"] == "nothing"
