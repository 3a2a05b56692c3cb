# SPDX-License-Identifier: Apache-2.0
"""The table of a sample: what is found, named and said falsely, apart for what was tuned on and what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from typing import Any

from benchmarks.listed.table import share
from benchmarks.zoo.compose import ROWS, find
from benchmarks.zoo.fault import Fault
from benchmarks.zoo.measure import Result

NAMED: dict[str, tuple[str, ...]] = {
    "GW-01": ("activation", "saturation", "initialisation"),
    "GW-02": ("initialisation",),
    "GW-03": ("recurrence",),
    "GW-04": ("recurrence",),
    "GW-05": ("rate too high",),
    "GW-06": ("inputs not scaled", "targets not scaled"),
    "GW-07": ("rate too high", "decay"),
    "GW-08": ("bad batch",),
    "GW-09": ("momentum",),
    "GW-10": ("loss formula",),
    "GW-11": ("bad batch",),
    "GW-13": ("precision",),
    "GW-14": ("precision",),
    "GW-15": ("dead units", "initialisation", "detached"),
    "GW-16": ("dead units", "rate too high"),
    "GW-17": ("saturation", "initialisation", "inputs not scaled"),
    "GW-18": ("detached",),
    "GW-19": ("not in optimizer",),
    "GW-20": ("rate too low", "loss formula"),
    "GW-21": ("initialisation", "no normalisation"),
    "GW-22": ("no normalisation", "initialisation"),
    "GW-23": ("rate too high", "schedule"),
    "GW-24": ("decay",),
    "GW-25": ("loss formula",),
    "GW-26": ("clipping",),
    "GW-27": ("bad batch", "rate too high"),
    "GW-29": ("schedule", "rate too low"),
    "GW-30": ("weights put back",),
    "GW-31": ("no zero_grad", "loss formula", "rate too high"),
    "GW-32": ("inputs not scaled", "targets not scaled", "initialisation"),
    "GW-33": ("loss formula",),
    "GW-34": ("no zero_grad", "loss formula"),
    "GW-35": ("loss formula",),
    "GW-36": ("loss formula",),
    "GW-37": ("collapse", "loss formula"),
}
"""What each row of remedies blames, in the words of the faults."""

HEAD = (
    "",
    "sick runs found",
    "as an alarm",
    "right kind",
    "right layer",
    "cause: right",
    "among others",
    "wrong",
    "unknown",
    "false alarm",
    "false warning",
    "healthy runs changed",
)


def findings(result: Result) -> list[dict[str, Any]]:
    """Alarms and warnings, in order, but for what counts our own acts."""
    return [event for event in result["events"] if event["severity"] != "info" and event["kind"] != "held"]


def cause(result: Result) -> str:
    """What the first message blames: ``right``, ``among others``, ``wrong`` or ``unknown``.

    Read off its row of remedies. Where that row stands for several causes, the right one is only among others.
    """
    change, first = find(result["name"]).change, findings(result)[0]
    assert isinstance(change, Fault)
    if not first["cause"] or "unknown" in first["cause"]:
        return "unknown"
    named = {word for remedy in first["remedies"] for word in NAMED.get(remedy["id"], ())}
    if not named & set(change.causes):
        return "wrong"
    return "right" if len(named) == 1 else "among others"


def is_kind(result: Result) -> bool:
    """Whether any finding is of a kind that fits the fault."""
    change = find(result["name"]).change
    assert isinstance(change, Fault)
    return any(event["kind"] in change.kinds for event in findings(result))


def is_layer(result: Result) -> bool:
    """Whether a finding names the layer at fault among its layers."""
    named = [layer for event in findings(result) for layer in event["layers"]]
    return any(fnmatch(layer, f"{result['layer']}*") for layer in named)


def row(title: str, results: Sequence[Result]) -> list[str]:
    """One line of the table."""
    sick = [r for r in results if r["sick"]]
    healthy = [r for r in results if not r["sick"]]
    found = [r for r in sick if findings(r)]
    causes = [cause(r) for r in found]
    alarms = [any(e["severity"] == "alarm" for e in findings(r)) for r in sick]
    false = [any(e["severity"] == "alarm" for e in findings(r)) for r in healthy]
    return [
        title,
        share(bool(findings(r)) for r in sick),
        share(alarms),
        share(is_kind(r) for r in sick),
        share(is_layer(r) for r in sick if r["layer"]),
        *(share(c == answer for c in causes) for answer in ("right", "among others", "wrong", "unknown")),
        share(false),
        share(bool(findings(r)) and not alarm for r, alarm in zip(healthy, false, strict=True)),
        share(r["changed"] for r in healthy),
    ]


def table(results: Iterable[Result]) -> str:
    """All rows; what a user may expect comes first."""
    kept = [result for result in results if result["proven"]]
    parts = [("**families or faults left out**", ROWS[1:]), *((name, (name,)) for name in ROWS), ("all", ROWS)]
    rows = [row(title, [r for r in kept if r["row"] in names]) for title, names in parts]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([*HEAD], ["---"] * len(HEAD), *rows))


def mistakes(results: Iterable[Result]) -> str:
    """Runs on the tuning side that were missed, and healthy ones there with a finding; the others stay closed."""
    kept = [r for r in results if r["proven"] and r["row"] == ROWS[0]]
    missed = [f"- missed: `{r['name']}` seed {r['seed']}" for r in kept if r["sick"] and not findings(r)]
    false = [
        f"- false: `{r['name']}` seed {r['seed']}: {findings(r)[0]['kind']}"
        for r in kept
        if not r["sick"] and findings(r)
    ]
    crashed = [f"- crashed: `{r['name']}` seed {r['seed']}: {r['error']}" for r in results if "error" in r]
    return "\n".join([*missed, *false, *crashed]) or "None."
