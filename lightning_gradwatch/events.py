# SPDX-License-Identifier: Apache-2.0
"""What a rule says: one finding, with its evidence, the likely cause and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Literal

Action = Literal["warn", "clip", "skip", "stop", "abort"]
"""What may be done about an event."""


class EventKind(str, Enum):
    """What was found."""

    NONFINITE = "nonfinite"
    SPIKE = "spike"
    LEVEL_SHIFT = "level_shift"
    EXPLOSION = "explosion"
    UPDATE_TOO_LARGE = "update_too_large"
    SCALER_STUCK = "scaler_stuck"
    VANISHING = "vanishing"
    VANISHING_IN_TIME = "vanishing_in_time"
    STALLED = "stalled"
    DEAD = "dead"
    DISCONNECTED = "disconnected"
    SATURATED = "saturated"
    NOT_UPDATED = "not_updated"
    REWOUND = "rewound"


class Severity(str, Enum):
    """How bad it is. Only an alarm acts by itself."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


def is_finding(kind: str, severity: str) -> bool:
    """Whether an event found something; else it only explains another one, and is not counted."""
    return severity != Severity.INFO or kind == EventKind.LEVEL_SHIFT


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to try.

    Attributes:
        id: Stable, such as ``"GW-08"``: the row of the table of symptoms.
        text: What to do, in the imperative.
        source: Where the advice comes from.
    """

    id: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class GradientEvent:
    """One finding at one optimizer step. Its `str` is the message for the console.

    Attributes:
        kind: What was found.
        severity: How bad it is.
        step: ``trainer.global_step`` at the hook: optimizer steps done before this one.
        log_step: The step axis of the loggers, the one that ``self.log`` uses.
        epoch: Counted from 0.
        batch_idx: Index of the batch within its epoch.
        rank: The one rank at fault, or None where all ranks see the same.
        optimizer: Index of the optimizer.
        layers: The layers at fault, worst first.
        value: What was measured.
        limit: What it was held against.
        message: The evidence. First line: the finding; further lines: ``label: text``.
        cause: What is likely, or None.
        remedies: Cheapest first, at most three.
        action_taken: What was done about it; never empty once the event is delivered.
        prevented: Whether it was kept from the weights: the step was skipped, or clipped to below the limit.
    """

    kind: EventKind
    severity: Severity
    step: int
    log_step: int
    epoch: int
    batch_idx: int
    rank: int | None
    optimizer: int
    layers: tuple[str, ...]
    value: float
    limit: float
    message: str
    cause: str | None = None
    remedies: tuple[Remedy, ...] = ()
    action_taken: str = ""
    prevented: bool = False

    def __str__(self) -> str:
        finding, *evidence = self.message.splitlines() or [""]
        lines = [f"[gradwatch] {self.severity.value.upper()} {self.kind.value}: {self._where()}: {finding}"]
        fields = [line.split(": ", 1) for line in evidence]
        fields += [["did", self.action_taken], ["likely", self.cause or ""], ["try", self._advice()]]
        lines += [f"  {label + ':':<8}{text}" for label, text in fields if text]
        return "\n".join(lines)

    def _where(self) -> str:
        rank = "" if self.rank is None else f", rank {self.rank}"
        optimizer = f", optimizer {self.optimizer}" if self.optimizer else ""
        return f"step {self.step} (epoch {self.epoch}, batch {self.batch_idx}{rank}{optimizer})"

    def _advice(self) -> str:
        if not self.remedies:
            return ""
        ids = "/".join(dict.fromkeys(remedy.id for remedy in self.remedies))
        return "   ".join(f"{i}) {r.text}" for i, r in enumerate(self.remedies, 1)) + f"   [{ids}]"

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, so that it survives ``torch.load(weights_only=True)`` and JSON."""
        return {**asdict(self), "kind": self.kind.value, "severity": self.severity.value}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GradientEvent:
        """The event that `to_dict` wrote."""
        fields = dict(data, kind=EventKind(data["kind"]), severity=Severity(data["severity"]))
        fields["layers"] = tuple(data["layers"])
        fields["remedies"] = tuple(Remedy(**remedy) for remedy in data["remedies"])
        return cls(**fields)
