# SPDX-License-Identifier: Apache-2.0
"""Runs made up for the tests, written through `RunHistory` and TensorBoard's own writer: no training."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from lightning_gradwatch.events import EventKind, GradientEvent, Remedy, Severity
from lightning_gradwatch.tensorboard.history import History
from lightning_gradwatch.tensorboard.records import RunHistory
from lightning_gradwatch.tensorboard.runs import LogDirectory

MARKUP = "<img src=x onerror=alert(1)>"


class Writer:
    """An event file as a `SummaryWriter` makes it."""

    def __init__(self, folder: Path) -> None:
        self._file = EventFileWriter(str(folder))

    def add_summary(self, summary: Summary, step: int) -> None:
        self._file.add_event(Event(step=step, wall_time=time.time(), summary=summary))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def make_event(kind: str = "spike", step: int = 0, severity: str = "warning", **fields: Any) -> GradientEvent:
    given: dict[str, Any] = {
        "epoch": 0,
        "batch_idx": step,
        "rank": None,
        "optimizer": 0,
        "layers": ("net.0",),
        "value": 3.1e4,
    }
    rest: dict[str, Any] = {
        "limit": 62.0,
        "message": "grad norm 3.1e4, limit 62",
        "action_taken": 'nothing (action="warn")',
    }
    return GradientEvent(EventKind(kind), Severity(severity), step, step, **{**given, **rest, **fields})


def write_run(folder: Path, norms: Any, first: int = 0, every: int = 1, **series: float) -> list[str]:
    """One record per row of `norms`; returns the names of the layers, ``net.0`` and so on."""
    rows = np.asarray(norms, dtype=np.float64)
    names, history = [f"net.{i}" for i in range(rows.shape[1])], RunHistory()
    with Writer(folder) as file:
        for i, row in enumerate(rows):
            total = float(np.sqrt(row @ row))
            given: dict[str, Any] = {"total": total, "total_clipped": total, **series}
            file.add_summary(history.add(first + i * every, names, row, **given), first + i * every)
    return names


def read_history(root: Path, run: str = ".") -> History:
    return LogDirectory(root).refresh([run], math.inf)[run].histories[0]


def write_sick_run(folder: Path, layers: int = 48, logged: int = 400, every: int = 25) -> None:
    """Made to be looked at: spikes, a NaN, two dead layers, gradients that fade towards the input, a name in markup."""
    random, history, depth = np.random.default_rng(3), RunHistory(), np.linspace(0, 1, layers)
    names = [f"blocks.{i}.{('mlp', 'attention.projection')[i % 2]}" for i in range(layers)]
    names[5] = MARKUP
    with Writer(folder) as file:
        for i, step in enumerate(range(0, logged * every, every)):
            fade = 10 ** (-2.5 * (1 - depth) * min(1, i / 300))
            norms = (
                2.0 * (1 + i / 20) ** -0.4 * fade * random.lognormal(0, 0.25, layers) * (1 + 0.5 * np.sin(9 * depth))
            )
            norms = norms * {180: 900.0, 181: 40.0, 260: 40.0}.get(i, 1.0)
            norms[10:12] *= i <= 330
            bad = np.linspace(0.9, -0.7, layers).clip(0) * (i == 300)
            norms[bad > 0] = math.nan
            file.add_summary(history.add(step, names, norms, **_rest(i, norms, bad, depth, random)), step)
            for event in _events(i, step, names):
                file.add_summary(history.event(step, event), step)


def _rest(i: int, norms: Any, bad: Any, depth: Any, random: np.random.Generator) -> dict[str, Any]:
    total, limit = float(np.sqrt(norms @ norms)), 5.0 if i > 20 else math.inf
    factor = limit / total if total > limit else 1.0
    scale = 0.5 if 182 <= i < 230 else min(1.0, 0.5 + max(0, i - 230) / 60) if 230 <= i < 260 else 1.0
    ratios = (
        1e-3 * scale * factor * norms / (0.05 + depth) * random.lognormal(0, 0.3, len(norms)) if i else depth * math.nan
    )
    growth = float(norms[0] / norms[-1]) ** (1 / len(norms)) if math.isfinite(total) else None
    measured = {"update_ratios": ratios, "nonfinite_share": bad, "max_abs": total / 3, "depth_factor": growth}
    return {
        **measured,
        "total": total,
        "total_clipped": total * factor,
        "limit": limit,
        "factor": factor,
        "lr_scale": scale,
    }


def _events(i: int, step: int, names: list[str]) -> list[GradientEvent]:
    outlier = (
        Remedy("GW-08", "look at this batch", "PaLM; ZClip"),
        Remedy("GW-08", "clip the gradient", "PaLM; ZClip"),
    )
    data = (Remedy("GW-11", "drop or repair the batch", "UMLAUT"), Remedy("GW-11", "check the loader", "UMLAUT"))
    small = (Remedy("GW-01", "ReLU or GELU", "Bengio 1994"), Remedy("GW-01", "Xavier initialisation", "Bengio 1994"))
    if i in (180, 260):
        text = "grad norm 3.1e4, limit 62 (10x the median of 50 steps)\nwhere: blocks.3 91 %\nloss: 2.1 -> 9.8"
        did: dict[str, Any] = {
            "action_taken": "clipped x0.002; training continues",
            "cause": "an outlier batch",
            "layers": (names[3],),
        }
        return [make_event("spike", step, message=text, remedies=outlier, **did)]
    if i == 300:
        text = f"NaN in 27 of {len(names)} layers\nfirst: {names[0]}, largest share"
        did = {"action_taken": "step skipped, weights intact (1 of at most 20 in a row)", "layers": tuple(names[:27])}
        return [make_event("nonfinite", step, "alarm", message=text, remedies=data, cause="a batch with NaN", **did)]
    if i == 380:
        text = (
            f"gradient shrinks x0.89 per layer from {names[-1]} (0.6) to {MARKUP} (2e-3)\nloss: no progress in 50 steps"
        )
        did = {"cause": "small derivatives, multiplied over 47 layers", "layers": (names[5], names[0])}
        return [make_event("vanishing", step, "alarm", message=text, remedies=small, **did)]
    return []


@pytest.fixture(scope="session")
def write_sick() -> Callable[..., None]:
    return write_sick_run


@pytest.fixture
def writer() -> Callable[[Path], Writer]:
    return Writer


@pytest.fixture
def event() -> Callable[..., GradientEvent]:
    return make_event


@pytest.fixture(scope="session")
def write() -> Callable[..., list[str]]:
    return write_run


@pytest.fixture
def read() -> Callable[..., History]:
    return read_history


# The plugin is named here, not found by its entry point: so the tests need no installed package.
_SERVER = """
import sys
from tensorboard import default, program
from lightning_gradwatch.tensorboard.plugin import GradWatchPlugin
board = program.TensorBoard(plugins=[*default.get_static_plugins(), GradWatchPlugin])
board.configure(sys.argv)
board.main()
"""


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """Starts a real TensorBoard on a free port of the loopback interface and returns its address."""
    servers = []

    def start(logdir: Path, load_fast: str = "auto", *, installed: bool = False) -> str:
        server, url = start_server(logdir, load_fast, installed=installed)
        servers.append(server)
        return url

    yield start
    for server in servers:
        server.terminate()
        server.communicate()


def start_server(
    logdir: Path, load_fast: str = "auto", *, installed: bool = False
) -> tuple[subprocess.Popen[str], str]:
    """A TensorBoard, as it is installed or as it is in this checkout, and its address."""
    options = ["--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0", f"--load_fast={load_fast}"]
    program = ["-m", "tensorboard.main"] if installed else ["-c", _SERVER]
    command = [sys.executable, *program, *options, "--reload_interval", "1"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    said = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/", said)):
        line = server.stderr.readline()
        assert line, said
        said += line
    return server, found[0]


def get_json(url: str) -> Any:
    with urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture(scope="session")
def active() -> Callable[[str], Any]:
    """Waits until TensorBoard calls the plugin active, and returns its entry in the list of plugins."""

    def wait(url: str) -> Any:
        deadline = time.monotonic() + 60
        while not (entry := get_json(f"{url}data/plugins_listing")["gradwatch"])["enabled"]:
            assert time.monotonic() < deadline, entry
            time.sleep(0.2)
        return entry

    return wait


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """A browser for all tests that need one."""
    from tests.tensorboard.browser import start

    browser = start()
    yield browser
    browser.quit()


@pytest.fixture
def fetch() -> Callable[[str], Any]:
    return get_json
