# SPDX-License-Identifier: Apache-2.0
"""An event as a text for TensorBoard."""

from __future__ import annotations

import re

from lightning_gradwatch.events import GradientEvent

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#+!|-])")


def as_markdown(event: GradientEvent) -> str:
    """The whole message: symptom, evidence, what was done, likely cause, remedies with their sources.

    Layer names are the user's own text, and are escaped.
    """
    finding, *evidence = event.message.splitlines() or [""]
    lines = [f"### {event.severity.value.upper()} {event.kind.value}: {escape(finding)}", ""]
    lines.append(f"step {event.step}, epoch {event.epoch}, batch {event.batch_idx}")
    lines += [f"* {escape(line)}" for line in evidence]
    lines.append(f"* did: {escape(event.action_taken)}")
    if event.cause:
        lines.append(f"* likely: {escape(event.cause)}")
    lines += [
        f"{i}. {escape(remedy.text)} ({remedy.id}; {escape(remedy.source)})"
        for i, remedy in enumerate(event.remedies, 1)
    ]
    return "  \n".join(lines)


def escape(text: str) -> str:
    """`text` so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", text)
