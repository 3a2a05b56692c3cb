# SPDX-License-Identifier: Apache-2.0
"""Measures all of it and writes the table: ``python -m benchmarks.overhead --out benchmarks/results/overhead.md``."""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.machine import made_by
from benchmarks.overhead.curves import draw, over_parameters, over_tensors
from benchmarks.overhead.single import logged_lines, memory_line, reading_lines, spread, start_line
from benchmarks.overhead.steps import CASES, timed

PICTURE = Path("docs/images/overhead.png")


def lines() -> Iterator[str]:
    """The report, line by line, as it comes."""
    yield f"{torch.get_num_threads()} threads. Ratios are the median over the rounds, in brackets lowest and highest."
    for case in CASES:
        yield f"\n**{case.name}**, {case.rounds} rounds of {case.steps} steps\n"
        yield "| | step | added | of bare | of `gradient_clip_val` |\n|---|---|---|---|---|"
        for row in timed(case):
            step = sorted(row.own)[len(row.own) // 2]
            ratios = f"{spread(row.ratios('bare'))} | {spread(row.ratios('clip'))}"
            yield f"| {row.variant.name} | {step:.2f} ms | {row.added:+.2f} ms | {ratios} |"
    yield "\n**The measurement alone**\n"
    yield from reading_lines()
    yield "\n**A logged step**\n"
    yield from logged_lines()
    yield "\n**More tensors, more parameters** (a step of plain SGD without forward and backward pass)\n"
    yield from curve_lines()
    yield f"\n{memory_line()}\n\n{start_line()}"
    yield "\nOf a CPU. `make gpu` is for a GPU."


def curve_lines() -> Iterator[str]:
    """The table under the picture, which it draws."""
    tensors, parameters = list(over_tensors()), list(over_parameters())
    yield "| tensors | parameters | bare | five callbacks add | `gradient_clip_val=1.0` adds |\n|---|---|---|---|---|"
    for p in [*tensors, *parameters]:
        yield f"| {p.tensors:,} | {p.parameters:,} | {p.bare:.2f} ms | {p.ours:+.2f} ms | {p.clip:+.2f} ms |"
    first, last = tensors[-3], tensors[-1]
    per = [1e3 * (getattr(last, n) - getattr(first, n)) / (last.tensors - first.tensors) for n in ("ours", "clip")]
    yield f"\nPer further tensor: {per[0]:.1f} µs, `gradient_clip_val` {per[1]:.1f} µs."
    draw(tensors, parameters, PICTURE)


def main() -> None:
    """Prints the report, and writes it where `--out` says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    out: Path | None = parser.parse_args().out
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning_gradwatch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    start, report = time.perf_counter(), []
    for line in lines():
        print(line, flush=True)
        report.append(line)
    if out is not None:
        made = made_by("make bench", time.perf_counter() - start)
        out.write_text(f"{made}\n\n" + "\n".join(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
