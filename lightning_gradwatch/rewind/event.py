# SPDX-License-Identifier: Apache-2.0
"""What is told of a rewind, and of the one that was not to be any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rewind.divergence import Verdict


def rewound(
    verdict: Verdict,
    where: dict[str, int],
    did: str,
    *,
    rewinds: Sequence[tuple[int, int]],
    limit: int,
    severity: Severity = Severity.WARNING,
) -> GradientEvent:
    """The event, with the cause and the remedies of the one that told.

    Args:
        verdict: Why.
        where: The position in the run, as the last five fields of a snapshot.
        did: What was done about it.
        rewinds: From which step to which the run went back so far.
        limit: How often it may.
        severity: An alarm lists the rewinds.
    """
    told, details, lines = verdict.event, dict[str, Any](where), [f"the weights are ruined: {verdict.reason}"]
    if told is not None:
        lines.append(f"after: {told.kind.value} of step {told.step}: {told.message.splitlines()[0]}")
        details.update(optimizer=told.optimizer, layers=told.layers, cause=told.cause, remedies=told.remedies)
    if severity is Severity.ALARM:
        lines.append("so far: " + ", ".join(f"step {start} to {end}" for start, end in rewinds))
    return GradientEvent(
        kind=EventKind.REWOUND,
        severity=severity,
        rank=None,
        value=len(rewinds),
        limit=limit,
        message="\n".join(lines),
        action_taken=did,
        **{"layers": (), **details},
    )
