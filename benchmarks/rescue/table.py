# SPDX-License-Identifier: Apache-2.0
"""Who rescued what, as markdown."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from statistics import median

from benchmarks.listed.case import REPORTING, TUNING
from benchmarks.listed.table import share
from benchmarks.rescue.measure import Result


def summary(results: list[Result]) -> str:
    """One row per method: the share of the rescuable runs that it rescued, in all and in each half."""
    wanted = [r for r in results if rescuable(r)]
    halves = {"all": wanted} | {half: [r for r in wanted if r["half"] == half] for half in (TUNING, REPORTING)}
    rows = [
        [name, *(share(r["rescued"][name] for r in half) for half in halves.values()), _typical(name, wanted)]
        for name in results[0]["values"]
    ]
    return markdown(["rescued by", *halves, "worse than the sound run, median (p90)"], rows)


def details(results: list[Result]) -> str:
    """One row per configuration: the median over the seeds (least to most), and how many seeds were rescued."""
    methods = list(results[0]["values"])
    rows = []
    for name in dict.fromkeys(r["pair"] for r in results):
        seeds = [r for r in results if r["pair"] == name]
        kind = "accuracy" if seeds[0]["accuracy"] else "loss"
        cells = [
            f"{spread(r['values'][m] for r in seeds)} {sum(r['rescued'][m] for r in seeds)}/{len(seeds)}"
            for m in methods
        ]
        rows.append([name, seeds[0]["half"], kind, spread(r["sound"] for r in seeds), *cells])
    return markdown(["run", "half", "judged by", "sound", *methods], rows)


def beyond_help(results: list[Result]) -> str:
    """The runs that neither a method nor the oracle rescued, by name, and how near the best method came."""
    lost = [
        f"{r['pair']} (seed {r['seed']}, nearest x{min(map(_known, r['ratio'].values())):.3g})"
        for r in results
        if not rescuable(r)
    ]
    return ", ".join(lost) or "none"


def rescuable(result: Result) -> bool:
    """Whether anything rescued the run."""
    return any(result["rescued"].values()) or bool(result["oracle"])


def _typical(method: str, results: list[Result]) -> str:
    ratios = sorted(_known(r["ratio"][method]) for r in results)
    return f"x{median(ratios):.3g} (x{ratios[int(0.9 * (len(ratios) - 1))]:.3g})" if ratios else "-"


def _known(ratio: float) -> float:
    return ratio if isfinite(ratio) else inf


def spread(values: Iterable[float]) -> str:
    """The median (least to most); NaN is worse than all."""
    known = sorted(values, key=lambda value: (value != value, value))  # NaN, which compares with nothing, is last
    return f"{known[len(known) // 2]:.3g} ({known[0]:.3g} to {known[-1]:.3g})"


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [headings, ["---"] * len(headings), *rows])
