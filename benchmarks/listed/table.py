# SPDX-License-Identifier: Apache-2.0
"""Verdicts as one markdown table, and the runs that went wrong by name."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median, quantiles

from benchmarks.listed.verdict import OURS, OURS_ALL, Verdict

HEADINGS = (
    "system",
    "detection",
    "right kind",
    "right layer",
    "healthy runs with a false alarm",
    "false alarms per 1,000 steps",
    "healthy runs changed",
    "steps to alarm, median (p90)",
    "warned before NaN, median lead",
)


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a proportion. Source: Wilson, 1927."""
    if of == 0:
        return 0.0, 1.0
    p = hits / of
    middle, half = p + z * z / (2 * of), z * ((p * (1 - p) + z * z / (4 * of)) / of) ** 0.5
    scale = 1 + z * z / of
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def share(outcomes: Iterable[bool]) -> str:
    """Per cent, the interval, and the count."""
    hits = list(outcomes)
    if not hits:
        return "-"
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits) / len(hits):.1%} [{low:.1%}, {high:.1%}] {sum(hits)}/{len(hits)}"


def row(system: str, verdicts: list[Verdict]) -> list[str]:
    """One system's cells."""
    sick = [v for v in verdicts if v.case.sick]
    healthy = [v for v in verdicts if not v.case.sick]
    alarms, steps = sum(len(v.alarms) for v in healthy), sum(v.steps for v in healthy)
    low, high = wilson(min(alarms, steps), steps)
    delays = [v.delay for v in sick if v.delay is not None]
    tail = quantiles(delays, n=10, method="inclusive")[-1] if len(delays) > 1 else 0
    warnable = [v for v in sick if v.could_warn]
    leads = [v.lead for v in warnable if v.lead is not None]
    # No published rule as re-implemented here names layers, and none acts.
    ours = system in (OURS, OURS_ALL)
    return [
        system,
        share(v.delay is not None for v in sick),
        share(bool(v.right) for v in sick),
        share(v.right_layer for v in sick if v.case.layer) if ours else "-",
        share(bool(v.alarms) for v in healthy),
        f"{1000 * alarms / steps:.2f} [{1000 * low:.2f}, {1000 * high:.2f}]" if steps else "-",
        share(bool(v.changed) for v in healthy) if ours else "-",
        f"{median(delays):.0f} ({tail:.0f})" if delays else "-",
        share(v.lead is not None for v in warnable) + (f", {median(leads):.0f} steps" if leads else ""),
    ]


def table(by_system: dict[str, list[Verdict]]) -> str:
    """The table, one row per system."""
    rows = [list(HEADINGS), ["---"] * len(HEADINGS), *(row(name, verdicts) for name, verdicts in by_system.items())]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def wrong(verdicts: list[Verdict]) -> str:
    """One system's mistakes by name, as a markdown table."""
    lines = ["| run | seed | mistake | expected | said |", "|---|---|---|---|---|"]
    for v in verdicts:
        if mistake := name_of(v):
            said = "; ".join(
                f"{'/'.join(sorted(a.kinds))} @{a.step} {', '.join((a.layers or ())[:3])}" for a in v.alarms[:5]
            )
            expected = "/".join(sorted(v.case.kinds)) + (f" in {v.case.layer}" if v.case.layer else "")
            lines.append(f"| {v.case.name} | {v.seed} | {mistake} | {expected or v.case.reason} | {said} |")
    return "\n".join(lines)


def name_of(v: Verdict) -> str:
    """What is wrong with a verdict, or nothing."""
    if not v.case.sick:
        return "false alarm" if v.alarms else "changed" if v.changed else ""
    if v.delay is None:
        return "missed" if not v.alarms else "only before the onset"
    if not v.right:
        return "wrong kind"
    return "wrong layer" if v.case.layer and not v.right_layer else ""
