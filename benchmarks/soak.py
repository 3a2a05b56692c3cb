# SPDX-License-Identifier: Apache-2.0
"""A million steps, each with an alarm: ``python -m benchmarks.soak``. Does anything grow that should not?

A real Trainer trains four weights, so that the steps cost little; everything else is as in any run: the five callbacks,
TensorBoard's files, the console. Every step breaks an absolute limit, each seventh is a spike, some hold a NaN.
"""

from __future__ import annotations

import argparse
import gc
import io
import logging
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from typing_extensions import override

from benchmarks.chaos.train import Lines, quiet
from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
    VanishingDetector,
)
from lightning_gradwatch.callbacks.detector import MOST_EVENTS

LOG_EVERY, SAMPLES = 50, 20
NONE_TO_FORTY = 41  # steps between two NaNs: at most 50 may be skipped within 1,000


class Pulls(IterableDataset[Tensor]):
    """The norm that each step's gradient is to have, for ever: 8, above the limit; each seventh a spike; some NaN."""

    def __iter__(self) -> Iterator[Tensor]:
        """Single numbers."""
        generator, step = torch.Generator().manual_seed(0), 0
        while True:
            step += 1
            pull = 8.0 * (1.0 + 0.1 * torch.rand(1, generator=generator))
            yield pull * torch.nan if step % NONE_TO_FORTY == 0 else pull * (1e3 if step % 7 == 0 else 1.0)


class Lever(LightningModule):
    """Four weights whose gradient has the norm that the batch says."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    @override
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.w * (batch[0] / 2)).sum()

    @override
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-6)


@dataclass
class Sample:
    """What was held at one moment.

    Attributes:
        step: Optimizer steps done.
        rss: Resident memory in MB.
        objects: Python objects that the garbage collector tracks, in thousands.
        events: What the detectors keep.
        found: What they have counted.
        state: Size of the callbacks' checkpoint in KB.
        lines: Messages on the console so far.
        files: Size of the event files in MB.
    """

    step: int
    rss: float
    objects: float
    events: int
    found: int
    state: float
    lines: int
    files: float


class Sampler(Callback):
    """Takes a sample every few steps."""

    def __init__(self, every: int, folder: Path, lines: Lines, tell: Callable[[Sample], None]) -> None:
        self.every, self.folder, self.lines, self.tell = every, folder, lines, tell
        self.samples: list[Sample] = []

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self.every == 0:
            trainer.logger.save()
            ours = [callback for callback in trainer.callbacks if hasattr(callback, "counts")]
            self.samples.append(self.sample(trainer.global_step, ours))
            self.tell(self.samples[-1])

    def sample(self, step: int, ours: list[Any]) -> Sample:
        """Everything that could grow."""
        gc.collect()
        buffer = io.BytesIO()
        torch.save([callback.state_dict() for callback in ours], buffer)
        return Sample(
            step=step,
            rss=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6,
            objects=len(gc.get_objects()) / 1e3,
            events=sum(len(getattr(callback, "events", ())) for callback in ours),
            found=sum(sum(callback.counts.values()) for callback in ours),
            state=buffer.getbuffer().nbytes / 1e3,
            lines=len(self.lines.lines),
            files=sum(path.stat().st_size for path in self.folder.rglob("*tfevents*")) / 1e6,
        )


def soak(steps: int, samples: int = SAMPLES, tell: Callable[[Sample], None] = lambda _: None) -> list[Sample]:
    """The samples of one run; `tell` gets each at once."""
    quiet()
    lines, package = Lines(), logging.getLogger("lightning_gradwatch")
    before = package.handlers, package.propagate
    package.handlers, package.propagate = [lines], False
    package.setLevel(logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = Sampler(steps // samples, Path(folder), lines, tell)
            trainer = Trainer(
                accelerator="cpu",
                devices=1,
                max_steps=steps,
                max_epochs=-1,
                logger=TensorBoardLogger(folder),
                log_every_n_steps=LOG_EVERY,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[
                    GradientNormLogger(),
                    ExplosionDetector(max_norm=4.0),
                    VanishingDetector(),
                    AdaptiveClipper(),
                    LRDecay(on=["explosion"]),
                    sampler,
                ],
            )
            trainer.fit(Lever(), DataLoader(Pulls(), batch_size=None))
    finally:
        package.handlers, package.propagate = before
    return sampler.samples


def table(samples: list[Sample], seconds: float) -> str:
    """The result as Markdown."""
    steps, names = samples[-1].step, [field.name for field in fields(Sample)]
    units = {"rss": "MB", "objects": "thousand", "state": "KB", "files": "MB"}
    heads = [f"{name} ({units[name]})" if name in units else name for name in names]
    rows = [[getattr(sample, name) for name in names] for sample in samples]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "tensorboard"))
    warm = samples[len(samples) // 4]
    lines = [
        f"{steps:,} optimizer steps of a real Trainer with the five callbacks and TensorBoard, an alarm at each.",
        f"A detector keeps the {MOST_EVENTS:,} newest events, in memory and in the checkpoint: until both have"
        " that many, both grow.",
        f"From step {warm.step:,} to the end: memory {samples[-1].rss - warm.rss:+.1f} MB, checkpoint"
        f" {samples[-1].state - warm.state:+.1f} KB, events kept {samples[-1].events - warm.events:+d},",
        f"console {samples[-1].lines - warm.lines:+d} lines for {samples[-1].found - warm.found:,} findings.",
        f"The event files take {1e6 * samples[-1].files / (steps / LOG_EVERY):,.0f} bytes for each of the"
        f" {steps // LOG_EVERY:,} logged steps.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---:|" * len(heads),
        *("| " + " | ".join(f"{v:,}" if isinstance(v, int) else f"{v:,.1f}" for v in row) + " |" for row in rows),
        "",
        f"Made by `python -m benchmarks.soak --steps {steps}` on {date.today()} in {seconds / 60:.1f} minutes"
        f" ({steps / seconds:,.0f} steps/s) on {os.cpu_count()} cores",
        f"({platform.machine()}, Python {platform.python_version()}, {versions}).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs, writes, prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="where the table goes")
    options, start = parser.parse_args(), time.perf_counter()
    torch.set_num_threads(1)
    text = table(soak(options.steps, tell=print), time.perf_counter() - start)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
