# SPDX-License-Identifier: Apache-2.0
"""The device that is measured, and its clock. A CPU stands in for it where the script itself is tried."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, cast

import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader, Dataset

from benchmarks.overhead.steps import Clock

DEVICE = os.environ.get("GRADWATCH_BENCH_DEVICE", "cuda")
"""``"cuda"``, or ``"cpu"`` to try the script on tiny sizes."""

IS_CUDA = DEVICE == "cuda"


def sized(full: int, tiny: int) -> int:
    """How many, on the device or where the script is only tried."""
    return full if IS_CUDA else tiny


def loader(batches: list[Any]) -> DataLoader[Any]:
    """Gives them out as they are. A list alone would be to Lightning one loader per batch."""
    return DataLoader(cast("Dataset[Any]", batches), batch_size=None)


def described() -> str:
    """Device, driver and versions, in one line."""
    if not IS_CUDA:
        return f"a CPU, to try the script: no figure means anything; torch {torch.__version__}"
    told = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False).stdout
    driver = re.search(r"Driver Version: (\S+)", told)
    version = driver.group(1) if driver else "unknown"
    return f"{torch.cuda.get_device_name()}, driver {version}, torch {torch.__version__}, CUDA {torch.version.cuda}"


def synchronize() -> None:
    """Waits for the device."""
    if IS_CUDA:
        torch.cuda.synchronize()


class DeviceClock(Callback):
    """The time at which each batch starts on the device, by marks in its stream that nobody waits for."""

    def __init__(self) -> None:
        self._marks: list[torch.cuda.Event] = []

    def on_train_batch_start(self, *_: object) -> None:
        """Sets a mark."""
        # torch 2.13 leaves the constructor of Event without annotations, which mypy --strict refuses to call.
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record()
        self._marks.append(mark)

    @property
    def steps(self) -> list[float]:
        """Milliseconds of each step; waits for the device."""
        torch.cuda.synchronize()
        return [a.elapsed_time(b) for a, b in pairwise(self._marks)]


StepClock: type[DeviceClock | Clock] = DeviceClock if IS_CUDA else Clock


def microseconds(call: Callable[[], object], repeats: int = 20) -> float:
    """The median duration of one call among `repeats`, from mark to mark, with nothing else under way."""
    taken = []
    for _ in range(repeats):
        clock = StepClock()
        synchronize()
        clock.on_train_batch_start()
        call()
        clock.on_train_batch_start()
        taken += clock.steps
    return 1e3 * median(taken)
