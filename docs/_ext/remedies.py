# SPDX-License-Identifier: Apache-2.0
"""The directive `remedies`: the table of symptoms, causes and remedies as it is in the code."""

from __future__ import annotations

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lightning_gradwatch.rules.remedies import TABLE


class Remedies(SphinxDirective):
    """One section for each row, whose anchor is its id in small letters."""

    def run(self) -> list[Node]:
        """The sections."""
        return self.parse_text_to_nodes("\n".join(map(section, TABLE)), allow_section_headings=True)


def section(number: int) -> str:
    """One row as Markdown."""
    row = TABLE[number]
    fixes = "\n".join(f"{i}. {fix}" for i, fix in enumerate(row.fixes, start=1)) or "Nothing: it ends by itself."
    return (
        f"(gw-{number:02d})=\n### GW-{number:02d}\n\n{row.symptom}.\n\n**Likely:** {row.cause}\n\n"
        f"**Try, cheapest first:**\n\n{fixes}\n\n*Source: {row.source}*\n"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("remedies", Remedies)
    return {"parallel_read_safe": True}
