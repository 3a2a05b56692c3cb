# SPDX-License-Identifier: Apache-2.0
"""Links, commands, arguments, kinds and tags of the documentation exist."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from pathlib import Path

import pytest

import lightning_gradwatch
from lightning_gradwatch.cli import _parser
from lightning_gradwatch.rules.remedies import TABLE
from tests.docs.pages import CALLBACKS, ROOT, TEXTS, batches, blocks

PROGRAMS = {
    "make",
    "pip",
    "python",
    "tensorboard",
    "gradwatch",
    "git",
    "cd",
    ".ci/run",
    ".ci/versions",
    ".venv/bin/pytest",
}


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_to_a_file_and_a_heading(page):
    bare = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", bare) if "://" not in link]
    broken = [link for link in links if not leads_somewhere(ROOT / page, link)]
    assert broken == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub and MyST make them, and of the rows that the directive makes."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return made | ({f"gw-{row:02d}" for row in TABLE} if "{remedies}" in text else set())


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_exists(page):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in "\n".join(blocks("bash", page)).splitlines():
        words = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
        if not words:
            continue
        assert words[0] in PROGRAMS, line
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), line
        if words[0] == "gradwatch":
            assert parses(_parser(), words[1:]), line


def parses(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    try:
        parser.parse_args(words)
    except SystemExit as end:
        return end.code == 0
    return True


def arguments(name: str) -> set[str]:
    return set(inspect.signature(getattr(lightning_gradwatch, name)).parameters)


def test_every_argument_in_the_readmes_table_of_callbacks_exists():
    rows = re.findall(r"^\| \[?`(\w+)`.*\| ([^|]*) \|$", TEXTS["README.md"], flags=re.MULTILINE)
    usually = {name: re.findall(r"`(\w+)`", usual) for name, usual in rows if name in CALLBACKS}
    assert sorted(usually) == sorted(CALLBACKS)
    assert [name for name, usual in usually.items() if not usual or not set(usual) <= arguments(name)] == []


@pytest.mark.parametrize("name", CALLBACKS)
def test_every_callback_has_a_page_whose_arguments_exist_with_these_defaults(name):
    text = next(text for page, text in TEXTS.items() if page.startswith("docs/callbacks/") and f"# {name}\n" in text)
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+?)`? \|", text, flags=re.MULTILINE))
    defaults = {n: p.default for n, p in inspect.signature(getattr(lightning_gradwatch, name)).parameters.items()}
    assert rows
    assert {n: eval(shown, {}) for n, shown in rows.items()} == {n: defaults[n] for n in rows}


def test_every_call_in_the_documentation_has_arguments_that_exist():
    calls = [
        (page, name, argument)
        for page, text in TEXTS.items()
        for name, inside in re.findall(r"\b([A-Z]\w+)\(([^()]*)\)", text)
        if name in lightning_gradwatch.__all__ and inspect.isclass(getattr(lightning_gradwatch, name))
        for argument in re.findall(r"(\w+)=", inside)
    ]
    assert len(calls) > 50
    assert [call for call in calls if call[2] not in arguments(call[1])] == []


def test_every_kind_of_event_is_explained():
    explained = re.findall(r"^### `(\w+)`$", TEXTS["docs/events.md"], flags=re.MULTILINE)
    assert explained == [kind.value for kind in lightning_gradwatch.EventKind]


def test_every_tag_is_listed_and_every_listed_tag_is_logged(kit):
    listed = re.findall(r"^\| `([^`]+)`", TEXTS["docs/tags.md"], flags=re.MULTILINE)
    patterns = {tag: re.sub(r"<\w+>", r"[\\w.]+", tag) for tag in listed}
    memory = kit.Memory()
    five = ("AdaptiveClipper", "ExplosionDetector", "GradientNormLogger", "LRDecay", "VanishingDetector")
    callbacks = [getattr(lightning_gradwatch, name)() for name in five]
    kit.fit(kit.net(), callbacks, steps=-1, loader=batches({30: float("nan")}), logger=memory, max_epochs=1)
    logged = [tag for tag in memory.points if tag.startswith(("grad_", "weight_"))]
    assert [tag for tag in logged if not any(re.fullmatch(p, tag) for p in patterns.values())] == []
    assert [tag for tag, p in patterns.items() if not any(re.fullmatch(p, tag) for tag in logged)] == []
