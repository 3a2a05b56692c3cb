# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML file with the views of the GradWatch tab: no server, no network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from math import inf
from pathlib import Path

from tensorboard.backend.json_util import Cleanse

from lightning_gradwatch.tensorboard import cells, queries
from lightning_gradwatch.tensorboard.history import History
from lightning_gradwatch.tensorboard.records import VALUES
from lightning_gradwatch.tensorboard.routes import Answer, overview
from lightning_gradwatch.tensorboard.runs import LogDirectory, Run

_POINTS, _ROWS, _COLUMNS, _EVENTS = 2000, 512, 300, 1000
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data:">
<title>GradWatch report</title>
<body>
<script type="application/json" id="gradwatch-report">{data}</script>
<script type="module">{script}</script>
"""


def load(directory: Path) -> dict[str, Run]:
    """The runs with gradient records in and below `directory`, by name; "." is the directory itself."""
    folders = [Path(folder) for folder, _, names in os.walk(directory) if any("tfevents" in name for name in names)]
    names = [folder.relative_to(directory).as_posix() for folder in folders]
    runs = LogDirectory(directory).refresh(sorted(names), inf)
    return {name: run for name, run in runs.items() if run.histories}


def render(runs: Mapping[str, Run]) -> str:
    """The page, with all that it shows in it."""
    entries = [
        {"run": name, "optimizer": optimizer, **_entry(history)}
        for name, run in runs.items()
        for optimizer, history in sorted(run.histories.items())
    ]
    data = {"runs": [overview(name, run) for name, run in runs.items()], "entries": entries}
    script = files("lightning_gradwatch.tensorboard").joinpath("static/index.js").read_text(encoding="utf-8")
    return _PAGE.format(data=json.dumps(Cleanse(data)).replace("<", "\\u003c"), script=script)


def _entry(history: History) -> Answer:
    always = (-inf, inf)
    return {
        "timeline": queries.timeline(history, always, _POINTS),
        "heatmaps": {value: cells.heatmap(history, value, always, _ROWS, _COLUMNS) for value in VALUES},
        "events": queries.events(history, _EVENTS),
        "layers": queries.layers(history),
    }
