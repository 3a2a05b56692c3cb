# SPDX-License-Identifier: Apache-2.0
"""Nothing that lies in a log directory or a checkpoint is ever run."""

from __future__ import annotations

import ast
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.plugin_util import markdown_to_safe_html

import lightning_gradwatch
from lightning_gradwatch import EventKind, ExplosionDetector, GradientEvent, Remedy, Severity
from lightning_gradwatch.cli import main
from lightning_gradwatch.output.markdown import as_markdown

ROOT = Path(lightning_gradwatch.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "subprocess"}
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen"}


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def bomb(tmp_path):
    return Bomb(tmp_path / "executed")


def test_the_bomb_works(bomb):
    pickle.loads(pickle.dumps(bomb))
    assert bomb.path.exists()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_unpickles_or_executes_text(source):
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not UNSAFE & {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNSAFE
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            owner = getattr(getattr(node.func, "value", None), "id", "")
            assert name not in CALLS or owner == "re"
            if name == "load" and owner in ("torch", "np", "numpy"):
                safe = {key.arg: ast.unparse(key.value) for key in node.keywords}
                assert (safe.get("weights_only"), safe.get("allow_pickle", "False")) == ("True", "False")


@pytest.mark.parametrize("where", ["callbacks", "lightning_gradwatch", "lightning_gradwatch_looks"])
def test_a_bomb_in_our_part_of_a_checkpoint_is_refused_and_does_not_go_off(kit, tmp_path, bomb, where):
    detector = ExplosionDetector()
    trainer = kit.fit(kit.net(), [detector], 3)
    trainer.save_checkpoint(tmp_path / "good.ckpt")
    checkpoint = torch.load(tmp_path / "good.ckpt", weights_only=True)
    state = checkpoint[where]
    (state[detector.state_key] if where == "callbacks" else state)["events"] = bomb
    torch.save(checkpoint, tmp_path / "bad.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        kit.fit(kit.net(), [ExplosionDetector()], 5, ckpt_path=tmp_path / "bad.ckpt")
    assert not bomb.path.exists()


def test_files_in_a_log_directory_are_read_as_data_only(kit, tmp_path, bomb, capsys):
    logs = tmp_path / "logs"
    callbacks = [lightning_gradwatch.GradientNormLogger()]
    kit.fit(kit.net(), callbacks, 3, logger=kit.pl.loggers.TensorBoardLogger(logs, name="run"))
    (folder,) = logs.glob("run/*")
    for name in ("x.pkl", "x.pt", "events.out.tfevents.9.bomb", "checkpoint"):
        (folder / name).write_bytes(pickle.dumps(bomb))
    torch.save({"events": bomb}, folder / "events.out.tfevents.8.zip")
    for name in ("__init__.py", "conftest.py", "sitecustomize.py"):
        (folder / name).write_text(f"import pathlib; pathlib.Path({str(bomb.path)!r}).touch()", encoding="utf-8")
    main(["report", str(logs), "--html", str(tmp_path / "report.html")])
    assert "net.0" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not bomb.path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "![x](http://evil/pixel.png)",
        "<a href='http://evil'>x</a>",
        "<http://evil>",
        "[x]: http://evil\n\n[x]",
        "x\n<img src=x onerror=alert(1)>",
        "`</code><b>x`",
    ],
)
def test_no_name_or_text_becomes_a_link_or_markup_in_the_text_tab(text):
    event = GradientEvent(
        EventKind.SPIKE, Severity.ALARM, 0, 0, 0, 0, None, 0, (text,), 2.0, 1.0, f"{text}\nwhere: {text}"
    )
    event = replace(event, cause=text, action_taken=text, remedies=(Remedy(text, text, text),))
    html = markdown_to_safe_html(as_markdown(event))
    for tag in ("<script", "<a ", "<img", "<b>", "<code"):
        assert tag not in html
