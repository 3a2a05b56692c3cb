# SPDX-License-Identifier: Apache-2.0
"""Counts what our callbacks change in a training, by kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

InterventionKind = Literal["clipped", "bounded", "rate_lowered", "backed_off", "skipped", "rewound"]

OFTEN, WINDOW = 10, 100
"""More touched steps than the first among the last so many are often: the run is held up, not helped now and then."""

MOST_LAYERS = 64
"""Layers whose counts are kept, for each kind."""

PHRASES: dict[str, str] = {
    "clipped": "gradient clipped",
    "bounded": "update bounded",
    "rate_lowered": "learning rate lowered",
    "backed_off": "learning rate backed off after an event",
    "skipped": "step skipped",
    "rewound": "went back to earlier weights",
}
"""For each kind, the words of the last line, in its order."""


@dataclass(frozen=True, slots=True)
class Touch:
    """What was done at one step.

    Attributes:
        factor: What the gradient, the update or the learning rate was multiplied by, in (0, 1); None for a step that
            was skipped or undone.
        layer: The layer that was touched most; None where it is no matter of layers.
        sound: The setting that would have made it unnecessary: a learning rate, or a limit of the norm; None if
            unknown.
    """

    factor: float | None = None
    layer: str | None = None
    sound: float | None = None


@dataclass(slots=True)
class Intervention:
    """All that was done of one kind.

    Attributes:
        steps: Optimizer steps that were touched.
        first: The first of them, as ``trainer.global_step`` counts.
        last: The last of them.
        log_factor: Sum of the logarithms of the factors.
        factors: Steps with a factor.
        layers: How often each layer was touched most.
        sound: The setting that would have made it unnecessary: geometric mean for a learning rate, largest for a
            limit; None if unknown.
        told: Optimizers for which it was told that they are touched often.
        recent: The last touched steps of each optimizer, as it counts its own, to tell whether they are frequent.
    """

    steps: int = 0
    first: int = 0
    last: int = 0
    log_factor: float = 0.0
    factors: int = 0
    layers: dict[str, int] = field(default_factory=dict)
    sound: float | None = None
    recent: dict[int, list[int]] = field(default_factory=dict)
    told: list[int] = field(default_factory=list)

    @property
    def factor(self) -> float | None:
        """Geometric mean of the factors; None where none has one."""
        return math.exp(self.log_factor / self.factors) if self.factors else None

    def add(self, kind: str, step: int, touch: Touch, optimizer: int = 0, ordinal: int = 0) -> None:
        """Counts one step.

        Args:
            kind: Of the intervention.
            step: ``trainer.global_step``.
            touch: What was done.
            optimizer: Index of the optimizer.
            ordinal: Which of that optimizer's steps it is.
        """
        self.first = step if not self.steps else self.first
        self.last, self.steps = step, self.steps + 1
        if touch.factor is not None and touch.factor > 0:
            self.log_factor, self.factors = self.log_factor + math.log(touch.factor), self.factors + 1
        if touch.layer is not None and (touch.layer in self.layers or len(self.layers) < MOST_LAYERS):
            self.layers[touch.layer] = self.layers.get(touch.layer, 0) + 1
        if touch.sound is not None and 0 < touch.sound < math.inf:
            self.sound = touch.sound if self.sound is None else _joined(kind, self.sound, touch.sound, self.steps)
        recent = self.recent.setdefault(optimizer, [])
        recent.append(ordinal)
        del recent[: -OFTEN - 1]

    def becomes_frequent(self, optimizer: int) -> bool:
        """Whether more than `OFTEN` of the last `WINDOW` steps of this optimizer were touched, for the first time."""
        recent = self.recent.get(optimizer, [])
        if optimizer in self.told or not (len(recent) > OFTEN and WINDOW <= recent[-1] < recent[0] + WINDOW):
            return False
        self.told.append(optimizer)
        return True

    def to_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return asdict(self)


class Interventions(Mapping[str, Intervention]):
    """Interventions by kind; empty where nothing was touched."""

    def __init__(self) -> None:
        self._kinds: dict[str, Intervention] = {}

    def __getitem__(self, kind: str) -> Intervention:
        return self._kinds[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, kind: str, step: int, touch: Touch, optimizer: int = 0, ordinal: int = 0) -> Intervention:
        """Counts one step; returns all of this kind."""
        known = self._kinds.setdefault(kind, Intervention())
        known.add(kind, step, touch, optimizer, ordinal)
        return known

    def describe(self) -> list[str]:
        """One phrase for each kind, such as ``gradient clipped at 3 steps (40 to 62, x0.1 on average)``."""
        return [_phrase(PHRASES[kind], self._kinds[kind]) for kind in PHRASES if kind in self._kinds]

    def advice(self, steps: int) -> list[str]:
        """What to set for the next run, for each kind that touched more than one step in ten of `steps`."""
        often = [(kind, x) for kind, x in self._kinds.items() if OFTEN * x.steps > steps and kind != "backed_off"]
        return [_advice(kind, x.sound) for kind, x in often if x.sound is not None]

    def state_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return {kind: known.to_dict() for kind, known in self._kinds.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken."""
        self._kinds = {kind: Intervention(**known) for kind, known in state.items()}


def _joined(kind: str, before: float, now: float, count: int) -> float:
    if kind == "clipped":
        return max(before, now)
    return float(before ** ((count - 1) / count) * now ** (1 / count))


def _phrase(what: str, known: Intervention) -> str:
    steps = f"{known.steps} step" + ("" if known.steps == 1 else "s")
    where = f"{known.first}" if known.first == known.last else f"{known.first} to {known.last}"
    mean = "" if known.factor is None else f", x{known.factor:.2g}" + (" on average" if known.steps > 1 else "")
    return f"{what} at {steps} ({where}{mean})"


def _advice(kind: str, sound: float) -> str:
    if kind == "clipped":
        return f"a limit of {sound:.2g} for the gradient norm would have clipped nothing"
    return f"a learning rate of {sound:.2g} would have needed no help"
