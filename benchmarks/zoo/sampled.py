# SPDX-License-Identifier: Apache-2.0
"""Trains a sample of the zoo, or the whole of it, and writes the table."""

from __future__ import annotations

import argparse
import json
import sys
import time

from benchmarks.machine import made_by
from benchmarks.pool import each
from benchmarks.zoo.compose import find, sample, whole
from benchmarks.zoo.measure import Result, measure
from benchmarks.zoo.report import mistakes, table


def one(job: tuple[str, int]) -> Result:
    """A job of the pool; a composition that cannot be trained is listed, and ends no other."""
    name, seed = job
    try:
        return measure(name, seed)
    except Exception as error:  # a fault of the benchmark itself, of any kind
        spec, words = find(name), f"{type(error).__name__}: {error}"
        known = {"name": name, "seed": seed, "row": spec.row, "sick": spec.sick, "proven": False, "layer": None}
        return known | {"outcome": words, "error": words, "events": [], "changed": False}


def run(options: argparse.Namespace) -> int:
    """Trains, prints and writes; fails where one of our callbacks raised."""
    specs = whole() if options.command == "all" else sample(options.size, options.salt)
    jobs = [(spec.name, seed) for seed in range(options.seeds) for spec in specs]
    start, results = time.perf_counter(), list[Result]()
    for result in each(one, jobs, options.jobs):
        results.append(result)
        if len(results) % 20 == 0:
            print(f"{len(results)}/{len(jobs)} {time.perf_counter() - start:.0f} s", flush=True)
    page = text(results, time.perf_counter() - start)
    print(page)
    if options.out is not None:
        options.out.write_text(page)
        lines = [json.dumps(result) + "\n" for result in results]
        options.out.with_suffix(".jsonl").write_text("".join(lines))
    return int(any("error" in result for result in results))


def text(results: list[Result], seconds: float) -> str:
    """The whole page."""
    proven = [result for result in results if result["proven"]]
    sick = sum(result["sick"] for result in proven)
    size = (
        f"{len(results)} runs, of which the outcome proves the label of {len(proven)}: {sick} sick,"
        f" {len(proven) - sick} healthy; in square brackets: 95 % Wilson intervals. Rules may be tuned on the row"
        " *tuning* only."
    )
    command = " ".join(["python -m benchmarks.zoo", *sys.argv[1:]])
    parts = [size, made_by(command, seconds), table(results), "Mistakes on the tuning side:"]
    return "\n\n".join([*parts, mistakes(results)]) + "\n"
