# SPDX-License-Identifier: Apache-2.0
"""Faults at random: ``python -m benchmarks.chaos``; ``--seed N`` repeats one run. Exits with 1 if anything broke."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.chaos.plan import Plan, draw
from benchmarks.chaos.run import run

HELD = (
    "Held in every run, unless listed below: no weight is ever non-finite; nothing hangs (300 s); what the user's own",
    "code raises arrives unchanged, and nothing else of ours is raised; what the console says, what detectors keep,",
    "what listeners hear and what the tags count agrees; every checkpoint loads with `weights_only=True`; after any",
    "death the resumed run ends with the weights, events, counts and rates of one in which nobody died, bit for bit;",
    "ranks agree.",
)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="how many, from seed 0")
    parser.add_argument("--seed", type=int, help="repeat this one and say what it is made of")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, help="where the table goes")
    return parser.parse_args()


def one(seed: int) -> tuple[Plan, list[str]]:
    """One run."""
    torch.set_num_threads(1)
    plan = draw(seed)
    return plan, run(plan)


def table(results: list[tuple[Plan, list[str]]], seconds: float) -> str:
    """How many runs had which fault, and what broke."""
    counts = Counter(what for plan, _ in results for what in faults(plan))
    bad = [(plan, broken) for plan, broken in results if broken]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "lightning-gradwatch"))
    lines = [
        f"{len(results):,} runs, each with faults drawn from its seed; broken invariants: **{len(bad)} runs**.",
        "",
        *HELD,
        "",
        "| fault | runs |",
        "|---|---|",
        *(f"| {what} | {count} |" for what, count in sorted(counts.items())),
        "",
        *(f"- seed {plan.seed}: {sentence}" for plan, broken in bad for sentence in broken),
        *([""] if bad else []),
        f"Made by `python -m benchmarks.chaos --runs {len(results)}` on {date.today()} in {seconds / 60:.1f} minutes on"
        f" {os.cpu_count()} cores ({platform.machine()}, Python {platform.python_version()}, {versions}).",
    ]
    return "\n".join(lines) + "\n"


def faults(plan: Plan) -> set[str]:
    """What a plan breaks, in words."""
    words = {f"gradient: {fault.kind}" for fault in plan.gradients}
    words |= {f"raises: {plan.raises[0]}"} if plan.raises is not None else set()
    words |= {f"dies: {plan.death[0]}"} if plan.death is not None else set()
    words |= {f"logger: {plan.logger}"} if plan.logger in ("raises", "file in the way", "disk full") else set()
    return words | {f"ranks: {plan.ranks}"} | {f"optimizer: {plan.optimizer}, precision {plan.precision}"}


def main() -> int:
    """Runs, writes, prints."""
    options, start = arguments(), time.perf_counter()
    if options.seed is not None:
        plan, broken = one(options.seed)
        print(plan, *(broken or ["nothing broke"]), sep="\n")
        return bool(broken)
    results = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for plan, broken in pool.map(one, range(options.runs)):
            results.append((plan, broken))
            for sentence in broken:
                print(f"seed {plan.seed}: {sentence}", flush=True)
            if len(results) % 100 == 0:
                print(f"{len(results):,} of {options.runs:,} runs", flush=True)
    text = table(results, time.perf_counter() - start)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    return any(broken for _, broken in results)


if __name__ == "__main__":
    sys.exit(main())
