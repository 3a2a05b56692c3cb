# SPDX-License-Identifier: Apache-2.0
"""Each Python block runs, and prints what the ``output`` block after it shows.

`sybil` finds the blocks, in the order of their page and with one namespace for each page; pytest-examples would give
each block its own, which no tutorial can live with.
"""

from __future__ import annotations

import io
import logging
import math
import re
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

import lightning_gradwatch
from tests.docs.pages import ROOT, TEXTS, batches, blocks, surroundings

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\bnan\b")
DRIFT = 0.3  # chaotic runs differ from processor to processor


class Printed(io.StringIO):
    """What blocks print, and what the package says meanwhile, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.handler = logging.StreamHandler(self)
        self.run_python = PythonEvaluator()

    def python(self, example: Any) -> None:
        """Runs a block; what the one before has printed is forgotten."""
        self.seek(0)
        self.truncate()
        said = logging.getLogger("lightning_gradwatch")
        said.addHandler(self.handler)
        try:
            with redirect_stdout(self):
                self.run_python(example)
        finally:
            said.removeHandler(self.handler)

    def output(self, example: Any) -> str | None:
        """Compares a block with what was printed; a line `...` stands for any number of lines."""
        shown, printed = example.parsed.strip().splitlines(), self.getvalue().strip().splitlines()
        return None if agree(shown, printed) else f"shown:\n{example.parsed}\nprinted:\n{self.getvalue()}"


def agree(shown: list[str], printed: list[str]) -> bool:
    """Whether all lines agree, numbers up to the drift."""
    if not shown or not printed:
        return shown in ([], ["..."]) and not printed
    if shown[0].strip() == "...":
        return any(agree(shown[1:], printed[i:]) for i in range(len(printed) + 1)) or len(shown) == 1
    return same(shown[0], printed[0]) and agree(shown[1:], printed[1:])


def same(shown: str, printed: str) -> bool:
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        return False
    pairs = zip(map(float, NUMBER.findall(shown)), map(float, NUMBER.findall(printed)), strict=True)
    return all(math.isclose(a, b, rel_tol=DRIFT, abs_tol=0.02) or (a != a and b != b) for a, b in pairs)


def file(example: Any) -> None:
    """A block of YAML is a file that later blocks read."""
    Path("config.yaml").write_text(example.parsed, encoding="utf-8")


@pytest.fixture(autouse=True)
def _level():
    """Some pages quieten the messages."""
    said = logging.getLogger("lightning_gradwatch")
    before = said.level
    said.setLevel(logging.INFO)
    yield
    said.setLevel(before)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # Lightning's, on short examples
@pytest.mark.parametrize("page", [name for name, text in TEXTS.items() if "```python" in text])
def test_every_block_of_a_page_runs_and_prints_what_is_shown(page, kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    printed = Printed()
    languages = {"python": printed.python, "output": printed.output, "yaml": file}
    parsers = [CodeBlockParser(language, run) for language, run in languages.items()]
    document = sybil.Document.parse(str(ROOT / page), SkipParser(), *parsers)
    document.namespace.update(surroundings(kit, batches()))
    for example in document.examples():
        with suppress(SkipTest):  # the page says why, in a comment before the block
            example.evaluate()


LOOPS = blocks("python", "docs/howto/plain-loops.md")


@pytest.mark.parametrize("code", LOOPS, ids=["torch", "fabric"])
def test_the_loops_without_a_trainer_tell_of_bad_batches_and_keep_them_out(code, kit, capsys):
    place = surroundings(kit, batches({30: 1e6, 40: float("nan")}))
    exec(code, place)
    told = capsys.readouterr().out
    assert "ALARM spike: step 30 " in told
    assert "ALARM nonfinite: step 40 " in told
    assert "_forward_module" not in told
    assert told.count("[gradwatch]") == 2
    net, loss = place["net"], place["loss_function"]
    x, y = batches().dataset.tensors
    assert loss(net(x), y) < 0.5 * y.square().mean()


def test_the_documented_listener_hears_of_bad_batches(kit):
    place: dict[str, Any] = {}
    exec(next(code for code in blocks("python", "docs/howto/reactions.md") if "class BadBatches" in code), place)
    listener = place["BadBatches"]()
    kit.pull([1.0, float("nan"), 1.0], [listener, lightning_gradwatch.ExplosionDetector()])
    assert [(epoch, batch) for epoch, batch, _ in listener.found] == [(0, 1)]
