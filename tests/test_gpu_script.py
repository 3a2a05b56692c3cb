# SPDX-License-Identifier: Apache-2.0
"""`make gpu`, tried on a CPU at tiny sizes: minutes of a GPU are rare, and none is to be lost to a typo."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from benchmarks.gpu.__main__ import LIMITS, ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GRADWATCH_BENCH_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):  # torchvision raises the latter beside another build of torch
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("step", sorted(LIMITS.keys() - {"tests"}))
def test_each_step_runs_to_its_end(step):
    if step == "rescue" and not importable("timm"):
        pytest.skip("timm, which has the vision transformer, cannot be imported here")
    done = run("benchmarks.gpu", "--step", step)
    assert done.returncode == 0, done.stderr
    assert "| **five callbacks** |" in done.stdout


@pytest.mark.slow
def test_the_tests_for_a_gpu_hold_on_a_cpu_where_they_can():
    done = run("pytest", "-q", "tests/gpu")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_all_of_it_ends_within_nine_minutes():
    assert sum(LIMITS.values()) <= 540
