# SPDX-License-Identifier: Apache-2.0
"""The run as a whole: health, timeline, events, and the table of layers. Arrays as in `cells`."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.events import PASSING, EventKind, is_finding
from lightning_gradwatch.snapshot import Floats
from lightning_gradwatch.tensorboard.advice import CODE
from lightning_gradwatch.tensorboard.cells import Range, pack
from lightning_gradwatch.tensorboard.history import History
from lightning_gradwatch.tensorboard.overview import Cells
from lightning_gradwatch.tensorboard.records import SERIES, VALUES

_OFTEN = 0.1  # share of touched steps above which a run is held up by us
_RECENT_STEPS, _RECENT_SHARE = 200, 0.1  # a finding is of late within the last 200 steps or tenth of the run
_TREND = 80  # points of the small curve
_SEVERE = ("alarm", "warning")


def health(history: History) -> dict[str, Any]:
    """A run at a glance.

    Returns:
        `state`: "alarm" or "warning" if one came of late, or ever where its kind lasts; "held" if our callbacks changed
        more than one logged step in ten of late; "quiet" if there was one earlier, "healthy" if never; `counts` by
        kind, `severities`; `last_alarm`: its step; `updated`: seconds since 1970; `trend`: the total norm, thinned.
    """
    steps, total = history.steps, history.series("total")
    latest = {event["severity"]: event["log_step"] for event in history.events}
    lasting = {event["severity"] for event in history.events if event["kind"] not in PASSING}
    ends = [*steps[[0, -1]].tolist()] if len(steps) else []
    ends += [event["log_step"] for event in history.events]  # they need not wait for the next logged step
    first, last = min(ends, default=0), max(ends, default=0)
    recent = last - max(_RECENT_STEPS, _RECENT_SHARE * (last - first))
    others = {e["severity"]: e["log_step"] for e in history.events if e["kind"] != EventKind.HELD}
    now = [severity for severity in _SEVERE if others.get(severity, -1) >= max(recent, 0) or severity in lasting]
    calm = "held" if _is_held(history, recent) else "quiet" if others.keys() & set(_SEVERE) else "healthy"
    return {
        "state": now[0] if now else calm,
        "first_step": first,
        "last_step": last,
        "logged": len(steps),
        "layers": len(history.layers),
        "counts": dict(Counter(e["kind"] for e in history.events if is_finding(e["kind"], e["severity"]))),
        "severities": dict(Counter(event["severity"] for event in history.events)),
        "last_alarm": latest.get("alarm"),
        "updated": float(history.series("wall_time")[-1]) if len(steps) else None,
        "trend": pack(total[_telling(total, _TREND)]),
    }


def _is_held(history: History, recent: float) -> bool:
    """Whether more than one in ten of the steps logged since `recent` was clipped, or an event says as much."""
    told = any(event["kind"] == EventKind.HELD and event["log_step"] >= recent for event in history.events)
    factors = history.series("factor")[history.steps >= recent]
    return told or bool(np.mean(factors < 1.0) > _OFTEN if len(factors) else False)


def timeline(history: History, steps: Range, points: int) -> dict[str, Any]:
    """Every series at no more than `points` logged steps, among them the largest and smallest norm of each stretch."""
    first, last = history.between(*steps)
    rows = first + _telling(history.series("total")[first:last], points)
    series = {name: pack(history.series(name)[rows]) for name in SERIES}
    return {"steps": pack(history.steps[rows]), **series, "logged": last - first}


def events(history: History, most: int) -> dict[str, Any]:
    """The newest `most` events, oldest first, each with a line of code to start with, or ""."""
    newest = list(history.events)[-most:]
    listed = [{**event, "code": next((_code(remedy) for remedy in event["remedies"]), "")} for event in newest]
    return {"events": listed, "count": len(history.events)}


def layers(history: History) -> dict[str, Any]:
    """All layers in depth order: norm now, typical and largest, share of its square, ratio, non-finite, events."""
    depth = history.layouts.depth
    cells, _ = history.overview.columns(0, len(history))
    norms, ratios, nonfinite = (_depth_ordered(cells, name, depth) for name in VALUES)
    last = next(history.rows(len(history) - 1, len(history)))[:, depth] if len(history) else cells[:, :0, depth].sum(1)
    named = Counter(layer for event in history.events for layer in event["layers"])
    squares = np.square(np.where(np.isfinite(last[0]), np.maximum(last[0], 0), 0), dtype=np.float64)
    return {
        "layers": history.layers,
        "norm": pack(last[0]),
        "typical": pack(_median(norms)),
        "peak": pack(norms.max(axis=0, initial=-1)),
        "share": pack(squares / squares.sum() if squares.any() else squares),
        "ratio": pack(_median(ratios)),
        "nonfinite": pack(nonfinite.max(axis=0, initial=0)),
        "events": [named[name] for name in history.layers],
    }


def _code(remedy: dict[str, str]) -> str:
    return CODE.get(remedy["id"], "")


def _depth_ordered(cells: Cells, value: str, depth: NDArray[np.intp]) -> Cells:
    ordered: Cells = cells[VALUES.index(value)][:, depth]
    return ordered


def _median(columns: Cells) -> Cells:
    """[layers] lower median over the first axis of what is present and finite; -1 where nothing is."""
    usable = np.isfinite(columns) & (columns >= 0)
    if not len(columns):
        return np.full(columns.shape[1], -1, dtype=np.float32)
    ranked = np.sort(np.where(usable, columns, np.inf), axis=0)
    middle = np.maximum(usable.sum(axis=0) - 1, 0) // 2
    return np.where(usable.any(axis=0), ranked[middle, np.arange(columns.shape[1])], -1).astype(np.float32)


def _telling(series: Floats, points: int) -> NDArray[np.intp]:
    """Indices of at most `points` entries: the ends, and the largest (NaN first) and smallest of each stretch."""
    if len(series) <= points:
        return np.arange(len(series))
    series = np.where(np.isnan(series), np.inf, series)
    edges = np.linspace(0, len(series), max(1, points // 2 - 1) + 1).astype(np.intp)
    parts = [(begin, series[begin:end]) for begin, end in pairwise(edges)]
    picked = [begin + index for begin, part in parts for index in (int(np.argmax(part)), int(np.argmin(part)))]
    return np.unique([0, *picked, len(series) - 1])
