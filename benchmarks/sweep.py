# SPDX-License-Identifier: Apache-2.0
"""The shape of ZClip's table: ``python -m benchmarks.sweep``.

A character transformer on real text at six learning rates; AdamW with warm-up and cosine decay; the loss on other
windows of the text than those of the training.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from itertools import product
from pathlib import Path
from statistics import median

from torch import nn
from torch.optim import AdamW

from benchmarks.listed import data, sequences
from benchmarks.listed.case import REPORTING
from benchmarks.listed.measure import prepare
from benchmarks.listed.tasks import Run, factor, fit
from benchmarks.machine import made_by
from benchmarks.picture import COLOURS, picture
from benchmarks.pool import each
from benchmarks.rescue.measure import under
from benchmarks.rescue.methods import BARE, CLIP, CLIPPER, OURS, ZCLIP
from benchmarks.rescue.pair import pair
from benchmarks.rescue.table import markdown, spread

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
SHOWN = (OURS, CLIPPER, ZCLIP, CLIP, BARE)
STEPS, WARM_UP = 500, 50
Losses = dict[tuple[str, float], list[float]]


def scale(step: int) -> float:
    """Linearly up, then down to a tenth."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.55 + 0.45 * math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP))


def transformer(lr: float) -> Run:
    """A run from the global random state."""

    def adamw(net: nn.Module) -> AdamW:
        return AdamW(net.parameters(), lr, betas=(0.9, 0.95), weight_decay=0.1)

    return fit(sequences.Characters(width=48), data.text(STEPS), adamw, schedule=factor(scale))


def one(job: tuple[str, float, int]) -> float:
    """The final loss under a method, at a learning rate, from a seed."""
    prepare()
    method, lr, seed = job
    return under(pair(f"rate {lr:g}", REPORTING, transformer, sick=lr, sound=lr), method, seed)


def table(losses: Losses) -> str:
    """One row per learning rate: the median over the seeds (least to most)."""
    rows = [[f"{lr:g}", *(spread(losses[name, lr]) for name in SHOWN)] for lr in RATES]
    return markdown(["learning rate", *SHOWN], rows)


def draw(losses: Losses, path: Path) -> None:
    """The same as a picture; a shade from least to most."""
    highest = 1.5 * math.log(128)  # far above chance there is nothing to see
    with picture(path, xlabel="learning rate", ylabel="final loss") as axes:
        for name, colour in zip(SHOWN, COLOURS, strict=False):
            seeds = [[min(x, highest) if x == x else highest for x in losses[name, lr]] for lr in RATES]
            axes.fill_between(RATES, [min(x) for x in seeds], [max(x) for x in seeds], color=colour, alpha=0.12, lw=0)
            axes.plot(RATES, [median(x) for x in seeds], color=colour, marker="o", markersize=4, label=name)
        axes.set_xscale("log")


def main() -> None:
    """Trains, prints, writes, draws."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs per learning rate and method")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, help="the table, and the raw results beside it; else it is only printed")
    parser.add_argument("--picture", type=Path, help="where to draw it")
    options = parser.parse_args()
    start, losses = time.perf_counter(), Losses()
    jobs = list(product(SHOWN, RATES, range(options.seeds)))
    for (method, lr, seed), loss in zip(jobs, each(one, jobs, options.jobs), strict=True):
        losses.setdefault((method, lr), []).append(loss)
        print(f"{method} at {lr:g}, seed {seed}: {loss:.3f}", flush=True)
    made = made_by(f"python -m benchmarks.sweep --seeds {options.seeds}", time.perf_counter() - start)
    page = (
        f"Final loss: the median of {options.seeds} seeds (least to most), {STEPS} steps.\n{made}\n\n{table(losses)}\n"
    )
    print("\n" + page)
    if options.out:
        options.out.write_text(page)
        rows = [{"method": method, "lr": lr, "losses": values} for (method, lr), values in losses.items()]
        options.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if options.picture:
        draw(losses, options.picture)


if __name__ == "__main__":
    main()
