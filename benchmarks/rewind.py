# SPDX-License-Identifier: Apache-2.0
"""What `Rewind` costs in time and memory: ``python -m benchmarks.rewind``.

Beside an `ExplosionDetector`, with a state kept every 10 steps. All steps of a run are timed, those that keep a state
apart from the others. The runs with and without it take turns.
"""

from __future__ import annotations

import logging
import time
import warnings
from statistics import median

import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.machine import made_by
from benchmarks.overhead.steps import CASES, Case, Clock, Deep, trainer_of
from lightning_gradwatch import ExplosionDetector, Rewind

EVERY, STEPS, WARM_UP = 10, 62, 20


class Size(Callback):
    """The bytes of the states that are kept, in the end."""

    def __init__(self, rewind: Rewind) -> None:
        self._rewind = rewind
        self.nbytes = 0

    def on_train_end(self, *_: object) -> None:
        """Looks at them."""
        self.nbytes = self._rewind.nbytes


def run(case: Case, *callbacks: Callback) -> tuple[float, float]:
    """Milliseconds of the median step that keeps a state, and of the median other one."""
    torch.manual_seed(0)
    clock = Clock()
    data = TensorDataset(torch.randn(case.batch, case.width).repeat(STEPS, 1))
    trainer = trainer_of([clock, ExplosionDetector(), *callbacks])
    trainer.fit(Deep(case.layers, case.width), DataLoader(data, batch_size=case.batch))
    later = list(enumerate(clock.steps))[WARM_UP:]
    keeping = [span for i, span in later if (i + 1) % EVERY == 0]
    return median(keeping), median(span for i, span in later if (i + 1) % EVERY)


def row(case: Case) -> str:
    """One line of the table."""
    rounds = []
    for _ in range(case.rounds):
        rewind = Rewind(keep_every_n_steps=EVERY, healthy_steps=EVERY)
        size = Size(rewind)
        rounds.append((run(case)[1], *run(case, rewind, size), size.nbytes))
    parameters = case.layers * (case.width + 1) * case.width
    added = [other - bare for bare, _, other, _ in rounds]
    keep = [keeping - other for _, keeping, other, _ in rounds]
    bare, nbytes = median(r[0] for r in rounds), rounds[0][3]
    return (
        f"| {case.name}, {case.rounds} rounds | {bare:.2f} ms | {median(added):+.2f} ms ({min(added):+.2f} to"
        f" {max(added):+.2f}) | {median(keep):.2f} ms ({min(keep):.2f} to {max(keep):.2f})"
        f" | {nbytes / 2**20:.1f} MiB, {nbytes / parameters:.1f} bytes per parameter |"
    )


def main() -> None:
    """Prints the table."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning_gradwatch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    start = time.perf_counter()
    rows = [row(case) for case in CASES]
    print(made_by("python -m benchmarks.rewind", time.perf_counter() - start))
    print(f"\n{torch.get_num_threads()} threads: median (min to max); AdamW in float32.\n")
    print("| case | step beside `ExplosionDetector` | added to a step | keeping a state | memory of both states |")
    print("|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
