# SPDX-License-Identifier: Apache-2.0
"""`make gpu`, tried on a CPU at tiny sizes: minutes of a GPU are rare, and none is to be lost to a typo."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.gpu import __main__ as script
from benchmarks.gpu import device
from benchmarks.gpu.__main__ import LIMITS, ROOT

TIMM = """
from torch import nn
__version__ = "none"
def create_model(name, *, img_size, patch_size, in_chans, num_classes, depth):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * img_size**2, num_classes))
"""


def run(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GRADWATCH_BENCH_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("step", sorted(LIMITS.keys() - {"tests"}))
def test_each_step_runs_to_its_end(step, tmp_path):
    # timm needs torchvision, of which no build goes with the pinned torch for CPUs; this stands in for the one network.
    (tmp_path / "timm.py").write_text(TIMM)
    done = run("benchmarks.gpu", "--step", step, path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "| **five callbacks** |" in done.stdout


@pytest.mark.slow
def test_the_tests_for_a_gpu_hold_on_a_cpu_where_they_can():
    done = run("pytest", "-q", "tests/gpu")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_all_of_it_ends_within_nine_minutes():
    assert sum(LIMITS.values()) <= 540


def test_it_goes_on_after_a_step_that_fails_or_takes_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "LIMITS", {"fails": 30, "hangs": 1, "ends": 30})
    code = {"fails": "print('so far'); raise SystemExit(3)", "hangs": "import time; time.sleep(60)", "ends": "1"}
    monkeypatch.setattr(script, "command", lambda step: ["-c", code[step]])
    monkeypatch.setattr(device, "IS_CUDA", False)
    monkeypatch.setattr(sys, "argv", ["gpu", str(tmp_path)])
    assert script.main() == 1
    told = (tmp_path / "summary.md").read_text().split("\n\n")[1:]
    assert [line.split(",")[0].strip() for line in told] == [
        "fails: failed (exit status 3)",
        "hangs: not done within 1 s",
        "ends: done",
    ]
    assert (tmp_path / "fails.md").read_text() == "so far\n"
