# SPDX-License-Identifier: Apache-2.0
"""A plan from its beginning to its end, each process in a fork of its own, so that it may die or hang."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.chaos import check
from benchmarks.chaos.plan import Plan
from benchmarks.chaos.train import Seen, train, unharmed
from tests.strategies.harness import launch

TIMEOUT = 300
"""Seconds after which a process counts as hung. A run takes one on a quiet machine, on a crowded one a hundred."""


def run(plan: Plan) -> list[str]:
    """What is wrong with a run, in sentences."""
    with tempfile.TemporaryDirectory() as folder:
        return list(_run(plan, Path(folder)))


def _run(plan: Plan, folder: Path) -> Iterator[str]:
    ranks, complaint = process(plan.ranks, partial(train, plan, folder))
    died = plan.death is not None and (ranks is None or any(map(killed, ranks)))
    if ranks is None and (not died or "has hung" in complaint):
        yield complaint
        return
    for seen in ranks or ():
        yield from check.broken(plan, seen, died=died)
    yield from agree(ranks or [])
    yield from check.checkpoints(folder)
    if died:
        yield from _resume(plan, folder)


def killed(seen: Seen) -> bool:
    """Whether the run ended as its death in the plan says, not by an action of ours before that."""
    return seen.error is not None and seen.error[0] in ("UserError", "SIGTERMException")


def _resume(plan: Plan, folder: Path) -> Iterator[str]:
    """Goes on from the newest checkpoint, and compares with a run in which nobody dies.

    What Lightning saves on an exception may be of the middle of a step, whose batch is lost or seen twice: from there
    the run only has to go on.
    """
    safe = replace(unharmed(plan), raises=None)
    latest = max(folder.glob("step=*.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)
    middle = folder / "on_exception.ckpt"
    with tempfile.TemporaryDirectory() as other:
        starts = (("whole", None), ("resumed", latest), ("middle", middle))
        there = [(Path(other) / name, path) for name, path in starts if path is None or path.exists()]
        for place, _ in there:
            place.mkdir()
        results = [process(plan.ranks, partial(train, safe, place, path)) for place, path in there]
    for ranks, complaint in results:
        if ranks is None:
            yield complaint
            return
        for seen in ranks:
            yield from check.broken(safe, seen, died=False)
        yield from agree(ranks)
    (whole, _), (resumed, _) = results[:2]
    if latest is not None and whole is not None and resumed is not None:
        yield from check.same(whole[0], resumed[0])


def agree(ranks: list[Seen]) -> Iterator[str]:
    """All ranks end with the same weights and events."""
    for other in ranks[1:]:
        if other.weights != ranks[0].weights:
            yield "ranks ended with different weights"
        alarms = [[fact for fact in seen.kept if fact[1] != "info"] for seen in (ranks[0], other)]
        if alarms[0] != alarms[1]:
            yield "ranks found different events"


def process(ranks: int, work: Callable[[], Any]) -> tuple[list[Seen] | None, str]:
    """What `work` gave on each rank; None and the reason where it died or hung."""
    try:
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            saved = os.dup(2)
            os.dup2(nothing.fileno(), 2)
            try:
                return launch(ranks, work, TIMEOUT), ""
            finally:
                os.dup2(saved, 2)
                os.close(saved)
    except AssertionError as error:
        return None, str(error)
