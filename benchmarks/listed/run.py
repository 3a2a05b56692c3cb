# SPDX-License-Identifier: Apache-2.0
"""Many configurations in several processes."""

from __future__ import annotations

from benchmarks.listed.cases import CASES
from benchmarks.listed.measure import Result, measure
from benchmarks.pool import each


def one(job: tuple[str, int]) -> Result:
    """What one worker does: the name of a configuration and a seed. Only names can be sent to it, no lambdas."""
    return measure(CASES[job[0]], job[1])


def run(jobs: list[tuple[str, int]], processes: int) -> list[Result]:
    """All results, in the order of `jobs`."""
    results = []
    for result in each(one, jobs, processes):
        results.append(result)
        mark = "" if result["label_ok"] else "LABEL CONTRADICTED: "
        print(
            f"{len(results)}/{len(jobs)} {mark}{result['case']} seed {result['seed']}: {result['outcome']}", flush=True
        )
    return results
