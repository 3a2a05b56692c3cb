# SPDX-License-Identifier: Apache-2.0
"""What can be asked about one optimizer of a run, and the checks of each parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isnan
from typing import Any

from lightning_gradwatch.tensorboard import cells, queries
from lightning_gradwatch.tensorboard.history import History
from lightning_gradwatch.tensorboard.records import VALUES
from lightning_gradwatch.tensorboard.runs import Run

Arguments = Mapping[str, str]
Answer = dict[str, Any]


class RequestError(Exception):
    """A request that cannot be answered; its text is the reason, in a sentence.

    Attributes:
        code: HTTP status.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _whole(arguments: Arguments, name: str, default: int) -> int:
    """An integer parameter."""
    try:
        return int(arguments.get(name, default))
    except ValueError:
        raise RequestError(400, f"`{name}` must be a whole number, got {arguments[name]!r}.") from None


def _step(arguments: Arguments, name: str, default: float) -> float:
    try:
        step = float(arguments.get(name, default))
    except ValueError:
        step = float("nan")
    if isnan(step):
        raise RequestError(400, f"`{name}` must be a step, got {arguments[name]!r}.")
    return step


def _steps(arguments: Arguments) -> cells.Range:
    return _step(arguments, "first", -inf), _step(arguments, "last", inf)


def _most(arguments: Arguments, name: str, default: int, limit: int) -> int:
    """How many points are asked for; never more than `limit`, which keeps the answer small."""
    number = _whole(arguments, name, default)
    if number < 1:
        raise RequestError(400, f"`{name}` must be at least 1, got {number}.")
    return min(number, limit)


def _timeline(history: History, arguments: Arguments) -> Answer:
    return queries.timeline(history, _steps(arguments), _most(arguments, "points", 2000, 10_000))


def _heatmap(history: History, arguments: Arguments) -> Answer:
    value = arguments.get("value", VALUES[0])
    if value not in VALUES:
        raise RequestError(400, f"`value` must be one of {', '.join(VALUES)}, got {value!r}.")
    rows, columns = _most(arguments, "rows", 512, 1024), _most(arguments, "columns", 400, 1024)
    return cells.heatmap(history, value, _steps(arguments), rows, columns)


def _curve(history: History, arguments: Arguments) -> Answer:
    layer = arguments.get("layer", "")
    if layer not in history.layers:
        raise RequestError(404, f"There is no layer {layer!r}: ask /layers for the names.")
    return cells.curve(history, layer, _steps(arguments), _most(arguments, "points", 1000, 4096))


def _profile(history: History, arguments: Arguments) -> Answer:
    if not len(history):
        raise RequestError(404, "Nothing was logged yet: the first profile comes with the first logged step.")
    return cells.profile(history, _step(arguments, "step", inf))


def _events(history: History, arguments: Arguments) -> Answer:
    return queries.events(history, _most(arguments, "most", 1000, 5000))


def _layers(history: History, _: Arguments) -> Answer:
    return queries.layers(history)


ROUTES: dict[str, Callable[[History, Arguments], Answer]] = {
    "timeline": _timeline,
    "heatmap": _heatmap,
    "curve": _curve,
    "profile": _profile,
    "events": _events,
    "layers": _layers,
}


def overview(name: str, run: Run) -> Answer:
    """One entry of the list of runs."""
    optimizers = [{"optimizer": i, **queries.health(history)} for i, history in sorted(run.histories.items())]
    return {"run": name, "loading": run.loading, "problems": run.problems[:10], "optimizers": optimizers}


def about(run: Run | None, route: str, arguments: Arguments) -> Answer:
    """The answer of a route of `ROUTES`.

    Raises:
        RequestError: There is no such run, optimizer or layer, or a parameter is malformed.
    """
    if run is None:
        raise RequestError(404, f"There is no run {arguments.get('run', '')!r} with gradient records: ask /runs.")
    optimizer = _whole(arguments, "optimizer", 0)
    if optimizer not in run.histories:
        raise RequestError(404, f"The run has no optimizer {optimizer}, or nothing of it was read yet.")
    return ROUTES[route](run.histories[optimizer], arguments)
