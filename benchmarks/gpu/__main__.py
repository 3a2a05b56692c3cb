# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.gpu [FOLDER]``: each step in a process of its own, under a time limit, its result at once.

Needs the Python that is there, and neither an installation nor a network. `--step NAME` runs one step, in this process.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUIET = ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda")
LIMITS = {"tests": 80, "training": 130, "small": 100, "memory": 40, "rescue": 90, "measurement": 70}
"""Seconds. Together less than nine minutes."""


def lines(step: str) -> Iterator[str]:
    """One step's report, line by line, as it comes."""
    # Within functions: timm may be missing, and what runs all steps needs none of it.
    from benchmarks.gpu import measurement, training
    from benchmarks.overhead.steps import BARE, CLIP, OURS

    if step == "training":
        return training.cost(training.GPT2, training.VARIANTS)
    if step == "small":
        return training.cost(training.SMALL, (BARE, CLIP, OURS))
    if step == "memory":
        return training.memory()
    if step == "measurement":
        return measurement.lines()
    from benchmarks.gpu import rescue

    return rescue.lines()


def command(step: str) -> list[str]:
    """What runs a step. The tests take no settings of ours: an older pytest does not know them."""
    if step == "tests":
        options = ["-c", os.devnull, f"--rootdir={ROOT}", "--import-mode=importlib", "-p", "no:cacheprovider"]
        return [*["-m", "pytest", "-q", "-rfEs", "-Wignore", "--tb=short"], *options, str(ROOT / "tests" / "gpu")]
    return ["-m", "benchmarks.gpu", "--step", step]


def run(step: str, out: Path) -> tuple[bool, str]:
    """Runs a step; whether it came to its end, and one line of how it went."""
    start, limit = time.perf_counter(), LIMITS[step]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with out.open("w", encoding="utf-8") as file:
        try:
            code = subprocess.run(
                [sys.executable, "-u", *command(step)],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return False, f"{step}: not done within {limit} s"
    how = "done" if code == 0 else f"failed (exit status {code})"
    return code == 0, f"{step}: {how}, {time.perf_counter() - start:.0f} s"


def main() -> int:
    """All steps, or one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "benchmarks" / "results" / "gpu")
    parser.add_argument("--step", choices=LIMITS)
    options = parser.parse_args()
    if options.step:
        warnings.simplefilter("ignore")
        for name in (*QUIET, "lightning_gradwatch"):
            logging.getLogger(name).setLevel(logging.ERROR)
        for line in lines(options.step):
            print(line, flush=True)
        return 0
    import torch

    from benchmarks.gpu.device import IS_CUDA, described

    if IS_CUDA and not torch.cuda.is_available():
        raise SystemExit(
            "`make gpu` needs a CUDA device, and torch sees none; GRADWATCH_BENCH_DEVICE=cpu only tries it."
        )
    options.out.mkdir(parents=True, exist_ok=True)
    summary, failed = [f"{date.today()}: {described()}, Python {sys.version.split()[0]}"], False
    print(summary[0], flush=True)
    for step in LIMITS:
        done, line = run(step, options.out / f"{step}.md")
        failed |= not done
        summary.append(line)
        print(line, flush=True)
        (options.out / "summary.md").write_text("\n\n".join(summary) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
