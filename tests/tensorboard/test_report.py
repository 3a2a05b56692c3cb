# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re

import numpy as np

from lightning_gradwatch.tensorboard.records import RunHistory
from lightning_gradwatch.tensorboard.report import load, render


def data(page):
    return json.loads(page.partition('id="gradwatch-report">')[2].partition("</script>")[0])


def test_runs_are_found_at_any_depth_and_those_without_records_are_left_out(tmp_path, write):
    write(tmp_path, np.ones((2, 1)))
    write(tmp_path / "a" / "version_0", np.ones((2, 1)))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "events.out.tfevents.1").write_bytes(b"")
    assert list(load(tmp_path)) == [".", "a/version_0"]


def test_the_report_has_all_views_of_all_runs_and_loads_nothing(tmp_path, write):
    write(tmp_path / "a", np.ones((2, 3)))
    write(tmp_path / "b", np.ones((2, 3)))
    page = render(load(tmp_path))
    assert [run["run"] for run in data(page)["runs"]] == ["a", "b"]
    assert [sorted(entry) for entry in data(page)["entries"]] == [
        ["events", "heatmaps", "layers", "optimizer", "run", "timeline"]
    ] * 2
    assert not re.search(r'(?:src|href)="', page.split("<script", maxsplit=1)[0])
    assert "default-src 'none'" in page


def test_no_name_can_end_the_script_or_become_markup(tmp_path, writer, event):
    name = "</script><img src=x onerror=alert(1)><!--"
    history = RunHistory()
    with writer(tmp_path) as file:
        file.add_summary(history.add(0, [name], np.ones(1), total=1.0, total_clipped=1.0), 0)
        file.add_summary(history.event(0, event(message=name)), 0)
    page = render(load(tmp_path))
    assert "<img" not in page.split('<script type="module">')[0]
    assert data(page)["entries"][0]["layers"]["layers"] == [name]


def test_what_json_lacks_is_a_word(tmp_path, writer, event):
    with writer(tmp_path) as file:
        file.add_summary(RunHistory().event(0, event(value=float("nan"), limit=float("inf"))), 0)
    (found,) = data(render(load(tmp_path)))["entries"][0]["events"]["events"]
    assert (found["value"], found["limit"]) == ("NaN", "Infinity")
