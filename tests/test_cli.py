# SPDX-License-Identifier: Apache-2.0
"""The command, as a shell would call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, NormClip, __version__, cli
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.output.writer import Writer
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo


def train(kit, folder, norms, *detectors):
    logger = kit.pl.loggers.TensorBoardLogger(folder)
    kit.pull(norms, [GradientNormLogger(), *detectors], logger=logger)


@pytest.fixture
def healthy(kit, tmp_path):
    train(kit, tmp_path, [1.0] * 5, ExplosionDetector())
    return tmp_path


@pytest.fixture
def sick(kit, tmp_path):
    train(kit, tmp_path, [1.0, 1.0, 8.0, 1.0], ExplosionDetector(max_norm=2.0), AdaptiveClipper(NormClip(max_norm=4.0)))
    return tmp_path


def test_the_report_has_health_events_remedies_and_the_layers_at_fault(sick, capsys):
    assert cli.main(["report", str(sick)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "lightning_logs/version_0",
        "  ALARM: steps 0 to 3, 4 logged, 1 layers",
        "  events: 1 explosion; last alarm at step 2",
        "",
        "  ALARM explosion: step 2 (epoch 0, batch 2): grad norm 8, limit 2 (max_norm)",
        "    where:  w 100 %",
        "    did:    clipped x0.5; training continues",
        "    likely: cause unknown: only max_norm was broken",
        "    try:    1) learning rate / 3   2) clip the gradient   3) check the sign of the weight decay   [GW-07]",
        "",
        "  worst layers  typical norm    largest  non-finite  events",
        "  w                        1          8          0%       1",
        "",
        f"All views in one page: {sick / 'gradwatch.html'}",
    ]


def test_a_healthy_run_has_nothing_to_tell(healthy, capsys):
    assert cli.main(["report", str(healthy), "--fail-on", "warning"]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "lightning_logs/version_0",
        "  HEALTHY: steps 0 to 4, 5 logged, 1 layers",
        "  events: none",
        "",
    ]


def test_the_page_is_written_where_one_wants_it_and_needs_nothing_else(sick, tmp_path):
    page = tmp_path / "page.html"
    assert cli.main(["report", str(sick), "--html", str(page)]) == 0
    content = page.read_text(encoding="utf-8")
    data = json.loads(content.partition('id="gradwatch-report">')[2].partition("</script>")[0])
    assert [run["run"] for run in data["runs"]] == ["lightning_logs/version_0"]
    assert not (sick / "gradwatch.html").exists()


@pytest.mark.parametrize(
    ("severities", "fail_on", "code"),
    [
        (["alarm"], "alarm", 1),
        (["warning", "alarm", "info"], "alarm", 1),
        (["warning"], "alarm", 0),
        (["warning"], "warning", 1),
        (["alarm"], "warning", 1),
        (["info"], "warning", 0),
        ([], "warning", 0),
    ],
)
def test_the_exit_code_says_whether_something_bad_was_found(record, tmp_path, severities, fail_on, code):
    record(tmp_path, severities)
    assert cli.main(["report", str(tmp_path), "--fail-on", fail_on]) == code
    assert cli.main(["report", str(tmp_path)]) == 0


def test_all_runs_below_the_directory_are_looked_at(record, tmp_path, capsys):
    record(tmp_path / "a", [])
    record(tmp_path / "b" / "c", ["alarm"])
    assert cli.main(["report", str(tmp_path), "--fail-on", "alarm"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith((" ", "All"))] == ["a", "b/c"]


def test_layers_beyond_the_fifth_are_counted(record, tmp_path, capsys):
    record(tmp_path, ["alarm"], layers=[f"net.{i}" for i in range(9)])
    cli.main(["report", str(tmp_path)])
    assert "  and 4 more" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "nowhere"], "nowhere is no directory: give the one where your logger put its event files."),
        (["report", "."], "No gradient records in .: train with GradientNormLogger() and a TensorBoardLogger first."),
    ],
)
def test_what_cannot_work_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"gradwatch: {said}\n")


def test_a_page_that_cannot_be_written_too(healthy, capsys):
    assert cli.main(["report", str(healthy), "--html", str(healthy)]) == 2
    assert capsys.readouterr().err == (
        f"gradwatch: {healthy} cannot be written (Is a directory): name another file with --html.\n"
    )


@pytest.mark.parametrize("arguments", [[], ["report"], ["report", ".", "--fail-on", "info"], ["bogus"]])
def test_bad_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: gradwatch")


def test_the_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert (exit_.value.code, capsys.readouterr().out) == (0, f"gradwatch {__version__}\n")


def test_the_report_needs_neither_torch_nor_lightning(sick):
    check = (
        "import sys; from lightning_gradwatch import cli;"
        " code = cli.main(['report', sys.argv[1], '--fail-on', 'alarm']);"
        " assert not {'torch', 'pytorch_lightning', 'lightning'} & sys.modules.keys(); sys.exit(code)"
    )
    assert subprocess.run([sys.executable, "-c", check, str(sick)], check=False, capture_output=True).returncode == 1


@pytest.mark.slow
def test_the_demonstration_trains_and_says_how_to_look_at_it(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: its digits are the data")
    command = [sys.executable, "-c", "import sys; from lightning_gradwatch import cli; sys.exit(cli.main(['demo']))"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, timeout=300).stdout
    assert "tensorboard --logdir runs/explosion" in shown
    assert shown.splitlines()[-1].endswith("gradwatch report runs/explosion")
    assert cli.main(["report", str(tmp_path / "runs/explosion"), "--fail-on", "alarm"]) == 1


def test_without_its_data_the_demonstration_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == (
        "gradwatch: The demonstration trains on scikit-learn's digits: pip install scikit-learn.\n"
    )


@pytest.fixture
def record(kit):
    """Writes a run with events of these severities."""

    def write(folder, severities, layers=("net",)):
        logger = kit.pl.loggers.TensorBoardLogger(folder, name="", version="")
        writer, layout = (
            Writer([logger]),
            ParameterInfo(tuple(f"{name}.weight" for name in layers), ((2, 2),) * len(layers)),
        )
        shown = GradientSnapshot(layout, np.ones(len(layers)), np.ones(len(layers), dtype=bool))
        writer.record(shown, None, None, total_clipped=1.0)
        where: dict[str, Any] = {"step": 0, "log_step": 0, "epoch": 0, "batch_idx": 0, "rank": None, "optimizer": 0}
        found: dict[str, Any] = {"layers": tuple(layers), "value": 2.0, "limit": 1.0, "message": "grad norm 2, limit 1"}
        for severity in severities:
            writer.event(GradientEvent(EventKind.SPIKE, Severity(severity), **where, **found))
        writer.flush()

    return write


def test_a_reader_that_has_had_enough_ends_nothing(sick, tmp_path):
    code = "import sys; from lightning_gradwatch.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "report", str(sick), "--fail-on", "alarm"]
    read, write = os.pipe()
    os.close(read)  # nobody reads
    done = subprocess.run(command, check=False, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
    assert (sick / "gradwatch.html").is_file()
