# SPDX-License-Identifier: Apache-2.0
"""Docstrings are read in the terminal first, so they mark names with one backtick: here those become links or code."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

import lightning_gradwatch

_NAME = re.compile(r"(?<![`:\\\w])`([^`\n]+)`(?![`_])")


def mark(_app: Sphinx, _what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Replaces `name` by a link where it is public, and by ``name`` elsewhere; in place, as Sphinx wants it."""

    def role(match: re.Match[str]) -> str:
        word = match[1]
        public = word.partition(".")[0] in lightning_gradwatch.__all__ and f"lightning_gradwatch.{word}" != name
        return f":py:obj:`{word} <lightning_gradwatch.{word}>`" if public else f"``{word}``"

    lines[:] = [_NAME.sub(role, line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Goes before napoleon, which knows only double backticks."""
    app.connect("autodoc-process-docstring", mark, priority=400)
    return {"parallel_read_safe": True}
