# SPDX-License-Identifier: Apache-2.0
"""Single costs: the measurement alone, a logged step, memory on the host, the start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.ours import five
from benchmarks.overhead.curves import Bare
from benchmarks.overhead.steps import CASES, Clock, Deep, trainer_of
from lightning_gradwatch import GradientNormLogger
from lightning_gradwatch.measurement.meter import Meter

LOGGED_EVERY = 10
_IMPORT = """
import torch, pytorch_lightning, time
start = time.perf_counter()
from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector
print(time.perf_counter() - start)
"""


def reading_lines() -> list[str]:
    """The measurement of the gradients against one sum over a flat tensor of the same bytes."""
    lines = ["| gradients | one read of the same bytes | norms of all tensors | ratio |", "|---|---|---|---|"]
    for case in CASES:
        module = Deep(case.layers, case.width)
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        flat = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        meter = Meter(module.named_parameters())
        pairs = [(_seconds(flat.sum), _seconds(meter.read)) for _ in range(15)]
        ratios = [ours / floor for floor, ours in pairs]
        floor, ours = (1e3 * median(side) for side in zip(*pairs, strict=True))
        lines.append(f"| {case.name} | {floor:.3f} ms | {ours:.3f} ms | {spread(ratios)} |")
    return lines


def logged_lines() -> list[str]:
    """A step that writes 300 scalars to TensorBoard against its neighbours that write nothing."""
    lines = ["| 100 layers, 300 scalars | unlogged step | logged step adds |", "|---|---|---|"]
    for name, ratios in (("with relative updates and weight norms", True), ("norms of the gradients only", False)):
        clock = Clock()
        every: list[tuple[float, float]] = []
        with tempfile.TemporaryDirectory() as folder:
            logger = TensorBoardLogger(folder)
            watch = GradientNormLogger(every_n_steps=LOGGED_EVERY, max_layers=100, update_ratio=ratios)
            trainer = trainer_of([watch, clock], logger=logger, log_every_n_steps=LOGGED_EVERY)
            data = TensorDataset(torch.randn(32, 32).repeat(210, 1))
            trainer.fit(Deep(100, 32), DataLoader(data, batch_size=32))
        steps = clock.steps[20:]
        for at in range(LOGGED_EVERY - 1, len(steps), LOGGED_EVERY):
            plain = median(steps[at - LOGGED_EVERY + 1 : at])
            every.append((plain, steps[at] - plain))
        unlogged, added = zip(*every, strict=True)
        cells = f"{median(unlogged):.2f} ms | {median(added):.2f} ms ({min(added):.2f} to {max(added):.2f})"
        lines.append(f"| {name} | {cells} |")
    return lines


def memory_line(steps: int = 1500) -> str:
    """How much the host's memory grows once all windows are full."""
    sizes: list[int] = []

    class ProbeReading(Clock):
        def on_train_batch_start(self, *_: object) -> None:
            self.starts = []
            if trainer.global_step in (steps, 2 * steps):
                sizes.append(tracemalloc.get_traced_memory()[0])

    trainer = trainer_of([*five(), ProbeReading()], max_steps=2 * steps + 1, max_epochs=-1)
    tracemalloc.start()
    trainer.fit(Bare(10, 64), DataLoader(TensorDataset(torch.zeros(2 * steps + 2, 1)), batch_size=1))
    tracemalloc.stop()
    grown = (sizes[1] - sizes[0]) / 1024
    return f"Memory of the host after {steps} steps: {sizes[0] / 1024:.0f} KiB; {steps} steps later {grown:+.1f} KiB."


def start_line() -> str:
    """``import`` once torch and Lightning are there."""
    command = [sys.executable, "-c", _IMPORT]
    took = [1e3 * float(subprocess.run(command, capture_output=True, check=True, text=True).stdout) for _ in range(5)]
    least, most = min(took), max(took)
    return f"Importing the five callbacks after torch and Lightning: {median(took):.0f} ms ({least:.0f} to {most:.0f})."


def spread(values: list[float]) -> str:
    """Median and range of ratios."""
    return f"x{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _seconds(call: Callable[[], object], least: float = 0.01) -> float:
    """The fastest of several calls."""
    best, end = float("inf"), time.perf_counter() + least
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
