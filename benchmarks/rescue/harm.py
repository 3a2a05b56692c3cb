# SPDX-License-Identifier: Apache-2.0
"""What our five callbacks do to the zoo's healthy runs: ``python -m benchmarks.rescue.harm``.

The final loss (whatever the zoo judges the run by) relative to the same run without them. Where the run clips by
``gradient_clip_val``, the callbacks take its place.
"""

from __future__ import annotations

import argparse
import json
import time
from fnmatch import fnmatch
from math import exp, log
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.listed.cases import CASES
from benchmarks.listed.label import ends
from benchmarks.listed.measure import prepare, train
from benchmarks.listed.outcome import Progress
from benchmarks.machine import made_by
from benchmarks.ours import five
from benchmarks.pool import each
from benchmarks.rescue.table import markdown

WORST = 10
"""So many are named, besides all that are beyond the goal."""

GOAL = 1.05
Result = dict[str, Any]


def one(job: tuple[str, int]) -> Result:
    """Where the run ends without callbacks and with them; plain types only."""
    prepare()
    case, seed = CASES[job[0]], job[1]
    bare, ours = Progress(), Progress()
    train(case.build(seed), [bare])
    run = case.build(seed)
    run.trainer.pop("gradient_clip_val", None)
    train(run, [*five(), ours])
    steps = {"steps": len(bare.curve), "same": bare.curve == ours.curve}
    return {"case": case.name, "seed": seed, "bare": ends(bare.curve)[1], "ours": ends(ours.curve)[1], **steps}


def ratio(result: Result) -> float:
    """Final loss with the callbacks over that without; a loss of at most 0 is compared by the relative difference."""
    bare, ours = float(result["bare"]), float(result["ours"])
    if result["same"]:
        return 1.0
    return ours / bare if bare > 0 else 1.0 + (ours - bare) / max(abs(bare), 1e-12)


def page(results: list[Result], seconds: float, seeds: int) -> str:
    """The ratios in three figures, and the worst by name."""
    ratios: dict[str, list[float]] = {}
    for result in results:
        ratios.setdefault(result["case"], []).append(ratio(result))
    typical = {name: _mean(values) for name, values in ratios.items()}
    ordered = sorted(typical, key=lambda name: -typical[name])
    shown = [name for i, name in enumerate(ordered) if i < WORST or typical[name] > GOAL]
    rows = [
        [name, f"x{typical[name]:.3f}", f"x{min(ratios[name]):.3f} to x{max(ratios[name]):.3f}", CASES[name].reason]
        for name in shown
    ]
    return "\n\n".join(
        (
            f"Final loss with our five callbacks at defaults over that of the bare run, {len(ordered)} healthy"
            f" configurations of the zoo, {seeds} seeds, geometric mean over the seeds: median"
            f" x{median(typical.values()):.3f}, best x{typical[ordered[-1]]:.3f}, worst x{typical[ordered[0]]:.3f};"
            f" {sum(r['same'] for r in results)} of {len(results)} runs bit-identical.\n"
            + made_by(f"python -m benchmarks.rescue.harm --seeds {seeds}", seconds),
            markdown(["worst configurations", "ratio", "seeds", "why it is in the zoo"], rows),
        )
    )


def _mean(ratios: list[float]) -> float:
    return exp(fmean(map(log, ratios))) if all(x > 0 for x in ratios) else max(ratios)


def main() -> None:
    """Trains, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rescue.harm", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs per configuration")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="*", help="fnmatch pattern of configuration names")
    parser.add_argument("--out", type=Path, help="the table, and the raw results beside it; else it is only printed")
    options = parser.parse_args()
    names = [case.name for case in CASES.values() if not case.sick and fnmatch(case.name, options.only)]
    jobs = [(name, seed) for name in names for seed in range(options.seeds)]
    start, results = time.perf_counter(), list[Result]()
    for result in each(one, jobs, options.jobs):
        results.append(result)
        print(f"{len(results)}/{len(jobs)} {result['case']} seed {result['seed']}: x{ratio(result):.3f}", flush=True)
    text = page(results, time.perf_counter() - start, options.seeds)
    print("\n" + text)
    if options.out:
        options.out.write_text(text + "\n")
        options.out.with_suffix(".jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))


if __name__ == "__main__":
    main()
