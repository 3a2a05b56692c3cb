# SPDX-License-Identifier: Apache-2.0
"""An event as a text for TensorBoard."""

from __future__ import annotations

import re

from lightning_gradwatch.events import GradientEvent

_SPECIAL = re.compile(r"([\\`*_\[\]#])")


def as_markdown(event: GradientEvent) -> str:
    """The whole message: symptom, evidence, what was done, likely cause, remedies with their sources.

    Layer names are the user's own text, and are escaped.
    """
    finding, *evidence = event.message.splitlines() or [""]
    cause = [f"likely: {event.cause}"] if event.cause else []
    known = [*evidence, f"did: {event.action_taken}", *cause]
    remedies = [f"{remedy.text} ({remedy.id}; {remedy.source})" for remedy in event.remedies]
    blocks = [
        f"### {event.severity.value.upper()} {event.kind.value}: {escape(finding)}",
        f"step {event.step}, epoch {event.epoch}, batch {event.batch_idx}",
        "\n".join(f"* {escape(line)}" for line in known),
        "try, cheapest first:" if remedies else "",
        "\n".join(f"{i}. {escape(remedy)}" for i, remedy in enumerate(remedies, 1)),
    ]
    return "\n\n".join(block for block in blocks if block)  # the blank lines make the lists lists


def escape(text: str) -> str:
    """`text` so that Markdown shows it as it is; TensorBoard's knows no backslash before ``<`` and ``&``."""
    return _SPECIAL.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
