# SPDX-License-Identifier: Apache-2.0
"""The examples run as a user runs them, and end as the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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
