# SPDX-License-Identifier: Apache-2.0
"""Trains runs that die or stall under every method: ``python -m benchmarks.rescue``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.machine import made_by
from benchmarks.pool import each
from benchmarks.rescue import beside
from benchmarks.rescue.cases import PAIRS
from benchmarks.rescue.measure import Result, one
from benchmarks.rescue.methods import METHODS
from benchmarks.rescue.table import beyond_help, details, rescuable, summary


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rescue", description=__doc__)
    parser.add_argument("--half", choices=("tuning", "reporting", "all"), default="all", help="which configurations")
    parser.add_argument("--seeds", type=int, default=3, help="runs per configuration")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="*", help="fnmatch pattern of configuration names")
    parser.add_argument("--methods", nargs="+", default=["*"], help="fnmatch patterns of methods")
    parser.add_argument(
        "--beside",
        type=Path,
        help="raw results (.jsonl) of an earlier run of other methods, for the same table; asks no oracle again",
    )
    parser.add_argument("--no-oracle", action="store_true", help="leave runs that no method rescues undecided")
    parser.add_argument("--out", type=Path, help="the table, and the raw results beside it; else it is only printed")
    return parser.parse_args()


def text(options: argparse.Namespace, results: list[Result], seconds: float, earlier: beside.Earlier) -> str:
    """The whole page."""
    command = " ".join(["python -m benchmarks.rescue", *sys.argv[1:]])
    size = f"{len({r['pair'] for r in results})} configurations, {options.seeds} seeds"
    count = f"{sum(map(rescuable, results))} of {len(results)} runs can be rescued"
    then = ""
    if earlier:
        minutes = sum(result["seconds"] for result in earlier.values()) / 60
        names = ", ".join(beside.methods(earlier))
        then = f" Of an earlier run (`{options.beside.name}`, {minutes:.1f} minutes of training): {names}; the oracle."
    parts = (
        f"{size}; {count} (`benchmarks/rescue/__init__.py` says what that means); in square brackets: 95 % Wilson"
        f" intervals.\n{made_by(command, seconds)}{then}",
        summary(results),
        "Per configuration: the median over the seeds (least to most), and how many seeds were rescued.",
        details(results),
        f"Not rescued by any method, nor by the oracle: {beyond_help(results)}.",
    )
    return "\n\n".join(parts)


def main() -> None:
    """Trains, prints, writes."""
    options = arguments()
    chosen = [p.name for p in PAIRS.values() if options.half in (p.half, "all") and fnmatch(p.name, options.only)]
    earlier = beside.read(options.beside) if options.beside else {}
    known = beside.methods(earlier)
    methods = tuple(m for m in METHODS if m not in known and any(fnmatch(m, pattern) for pattern in options.methods))
    start, results = time.perf_counter(), list[Result]()
    ask = not options.no_oracle and not earlier
    jobs = [(name, seed, methods, ask) for name in chosen for seed in range(options.seeds)]
    if earlier:
        beside.require(earlier, [job[:2] for job in jobs])
    for trained in each(one, jobs, options.jobs):
        result = beside.joined(earlier[trained["pair"], trained["seed"]], trained) if earlier else trained
        results.append(result)
        ends = ", ".join(
            f"{name} {value:.3g}{' *' * result['rescued'][name]}" for name, value in result["values"].items()
        )
        print(
            f"{len(results)}/{len(jobs)} {result['pair']} seed {result['seed']}: sound {result['sound']:.3g}; {ends}",
            flush=True,
        )
    page = text(options, results, time.perf_counter() - start, earlier)
    print("\n" + page)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(page + "\n")
        options.out.with_suffix(".jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))


if __name__ == "__main__":
    main()
