# SPDX-License-Identifier: Apache-2.0
"""Runs the hand-written list: ``python -m benchmarks.listed``. Exits with 1 if an outcome contradicts its label."""

from __future__ import annotations

import argparse
import json
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.listed.case import Case
from benchmarks.listed.cases import BATCH_OF, BATCHES, CASES
from benchmarks.listed.run import run
from benchmarks.listed.table import table, wrong
from benchmarks.listed.verdict import OURS, Verdict, verdicts
from benchmarks.machine import made_by


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listed", description=__doc__)
    parser.add_argument("--half", choices=("tuning", "reporting", "all"), default="all", help="which configurations")
    parser.add_argument("--batch", choices=(*BATCHES, "all"), default="all", help="configurations added together")
    parser.add_argument("--seeds", type=int, default=3, help="runs per configuration")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="*", help="fnmatch pattern of configuration names")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/listed.md"), help="the table; the rest beside it"
    )
    return parser.parse_args()


def wanted(case: Case, options: argparse.Namespace) -> bool:
    """Whether a configuration was asked for."""
    right_batch = options.batch in (BATCH_OF[case.name], "all")
    return right_batch and options.half in (case.half, "all") and fnmatch(case.name, options.only)


def head(options: argparse.Namespace, results: list[dict[str, Any]], seconds: float) -> str:
    """How the figures were made."""
    kinds = [{r["case"] for r in results if r["sick"] is sick} for sick in (True, False)]
    size = f"{len(kinds[0])} sick and {len(kinds[1])} healthy configurations, {options.seeds} seeds"
    steps = f"{len(results)} runs, {sum(r['steps'] for r in results):,} optimizer steps"
    asked = f"--batch {options.batch} --half {options.half} --seeds {options.seeds} --jobs {options.jobs}"
    return (
        f"Batch: {options.batch}, half: {options.half}. {size}, {steps}; in square brackets: 95 % Wilson intervals.\n"
        f"{made_by(f'python -m benchmarks.listed {asked}', seconds)}"
    )


def by_system(results: list[dict[str, Any]]) -> dict[str, list[Verdict]]:
    """What each system said of each run."""
    found: dict[str, list[Verdict]] = {}
    for result in results:
        for system, verdict in verdicts(result, CASES[result["case"]]).items():
            found.setdefault(system, []).append(verdict)
    return found


def tables(results: list[dict[str, Any]]) -> str:
    """One table of all runs, and one of the reporting half where that is not the same."""
    reporting = [result for result in results if result["half"] == "reporting"]
    if len(reporting) in (0, len(results)):
        return table(by_system(results))
    return f"{table(by_system(results))}\n\nThe reporting half alone:\n\n{table(by_system(reporting))}"


def main() -> int:
    """Runs, writes, prints."""
    options = arguments()
    chosen = [c for c in CASES.values() if wanted(c, options)]
    start = time.perf_counter()
    results = run([(c.name, seed) for c in chosen for seed in range(options.seeds)], options.jobs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = f"{head(options, results, time.perf_counter() - start)}\n\n{tables(results)}\n"
    options.out.write_text(text)
    options.out.with_suffix(".jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))
    options.out.with_name(f"{options.out.stem}_mistakes.md").write_text(wrong(by_system(results).get(OURS, [])) + "\n")
    print(text)
    failures = [
        f"{r['case']} seed {r['seed']}: label contradicted: {r['outcome']}" for r in results if not r["label_ok"]
    ]
    failures += [f"{r['case']} seed {r['seed']}: crashed: {r['error']}" for r in results if "error" in r]
    print(*failures, sep="\n", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
