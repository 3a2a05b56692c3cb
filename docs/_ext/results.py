# SPDX-License-Identifier: Apache-2.0
"""The directive `results`: a table as its benchmark wrote it, and its picture; a word where it was not run yet."""

from __future__ import annotations

from pathlib import Path

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).parents[1]


class Results(SphinxDirective):
    """Takes the name of a file in ``benchmarks/results``, without its ending."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """What is there."""
        name = self.arguments[0]
        table = DOCS.parent / "benchmarks" / "results" / f"{name}.md"
        self.env.note_dependency(str(table))
        parts = [f"![{name}](/images/{name}.png)"] if (DOCS / "images" / f"{name}.png").is_file() else []
        parts.append(table.read_text(encoding="utf-8") if table.is_file() else "*Not measured yet.*")
        return self.parse_text_to_nodes("\n\n".join(parts))


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
