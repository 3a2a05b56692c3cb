# SPDX-License-Identifier: Apache-2.0
"""A run as a few lines of text: health, events by kind with their remedies, the layers at fault."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lightning_gradwatch.events import GradientEvent
from lightning_gradwatch.tensorboard import queries
from lightning_gradwatch.tensorboard.cells import unpack
from lightning_gradwatch.tensorboard.history import History
from lightning_gradwatch.tensorboard.runs import Run

_WORST = 5  # layers listed


def summary(name: str, run: Run) -> Iterator[str]:
    """The lines about one run; `name` as in `load`."""
    for optimizer, history in sorted(run.histories.items()):
        yield f"{name}, optimizer {optimizer}" if len(run.histories) > 1 else name
        yield from (f"  {line}".rstrip() for line in (*_health(history), *_events(history), *_worst(history)))
    yield from (f"  note: {problem}" for problem in run.problems)


def _health(history: History) -> Iterator[str]:
    health = queries.health(history)
    steps = f"steps {health['first_step']:,} to {health['last_step']:,}"
    yield f"{health['state'].upper()}: {steps}, {health['logged']:,} logged, {health['layers']:,} layers"
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(health["counts"].items()))
    last = "" if health["last_alarm"] is None else f"; last alarm at step {health['last_alarm']:,}"
    yield f"events: {counts or 'none'}{last}"


def _events(history: History) -> Iterator[str]:
    """The newest of each kind and severity, in full."""
    newest = {(event["kind"], event["severity"]): event for event in history.events}
    for event in sorted(newest.values(), key=lambda event: int(event["log_step"])):
        yield ""
        yield from str(GradientEvent.from_dict(event)).removeprefix("[gradwatch] ").splitlines()


def _worst(history: History) -> Iterator[str]:
    """Layers that events name or that had non-finite entries, and how far their norm went."""
    table = queries.layers(history)
    typical, peak = (unpack(table[name], np.float32) for name in ("typical", "peak"))
    nonfinite, events = unpack(table["nonfinite"], np.float32), np.array(table["events"])
    at_fault = np.flatnonzero((events > 0) | (nonfinite > 0))
    worst = sorted(at_fault.tolist(), key=lambda i: (-events[i], -nonfinite[i], -peak[i]))[:_WORST]
    if worst:
        names = [table["layers"][i] for i in worst]
        width = max(len("worst layers"), *map(len, names))
        yield ""
        yield f"{'worst layers':<{width}}  {'typical norm':>12}  {'largest':>9}  {'non-finite':>10}  {'events':>6}"
        for i, name in zip(worst, names, strict=True):
            numbers = f"{typical[i]:>12.2g}  {peak[i]:>9.2g}  {nonfinite[i]:>10.0%}  {events[i]:>6}"
            yield f"{name:<{width}}  {numbers}"
    if len(at_fault) > _WORST:
        yield f"and {len(at_fault) - _WORST:,} more"
