# SPDX-License-Identifier: Apache-2.0
"""What each callback does within a step; when it is called is the session's business."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import numpy as np
from torch.optim import Optimizer

from lightning_gradwatch.arguments import patterns
from lightning_gradwatch.engine.interventions import InterventionKind, Interventions, Touch
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.engine.step import Members, StepRecord, StepResult, Wanted
from lightning_gradwatch.errors import GradientExplosionError, GradwatchError
from lightning_gradwatch.events import GradientEvent, is_finding
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo

Patterns = str | list[str] | None


class Participant:
    """One of the callbacks that share a measurement, without the hooks of Lightning.

    Args:
        name: Tells several instances of one class apart, in checkpoints and in tags.
        include: Name patterns (fnmatch) of the parameters to look at; None for all.
        exclude: Name patterns of the parameters to leave out.

    Attributes:
        rank: Its place among the others, whatever the order in the Trainer's list.
        counts: Events so far, by kind.
        interventions: What it has changed in the training so far, by kind: ``"clipped"``, ``"bounded"``,
            ``"rate_lowered"``, ``"backed_off"``, ``"skipped"``, ``"rewound"``.
        tripped: The event of its own that ended the run, or None.
    """

    skips: bool = False
    """Whether it may have a step skipped or undone."""
    error: ClassVar[type[GradwatchError]] = GradientExplosionError
    diagnose: bool = False
    only_reports: ClassVar[bool] = False
    """Whether nothing it does reaches the training, so that what fails in it may be switched off."""

    def __init__(self, *, name: str | None, include: Patterns = None, exclude: Patterns = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"`name` must be a string or None, got {name!r}. Leave it out for a single instance.")
        self.name = name
        self.sort_key = (type(self).__name__, name or "")
        self.include = None if include is None else patterns("include", include)
        self.exclude = patterns("exclude", exclude)
        self.counts: dict[str, int] = {}
        self.interventions = Interventions()
        self.tripped: GradientEvent | None = None
        self._selected: tuple[ParameterInfo, tuple[Members, ParameterInfo]] | None = None

    def check(self, trainer: Any, pl_module: Any) -> None:
        """Raises a `GradwatchError` where the callback cannot work with this Trainer; at ``setup``."""

    def check_optimizers(self, trainer: Any, pl_module: Any) -> None:
        """The same for what needs the optimizers; at ``on_fit_start``."""

    def notes(self, trainer: Any, watches: Sequence[OptimizerHooks]) -> list[str]:
        """Sentences for the start of a run, where something is not as one would expect."""
        return []

    def describe(self) -> str:
        """What it will do, for the start line; empty if it only watches."""
        return ""

    def acts_at_once(self, optimizer: Optimizer, *, scaled: bool) -> bool:
        """Whether the host must see this step's numbers before it is taken, which costs a synchronisation on CUDA.

        Args:
            optimizer: Whose step.
            scaled: Whether a GradScaler skips non-finite steps.
        """
        return False

    def wants_max_abs(self, trainer: Any, log_step: int) -> bool:
        """Whether the largest absolute entry is to be found at this step, which is a second pass over the gradients."""
        return False

    def begin(self, watch: OptimizerHooks) -> None:
        """An optimizer is watched from here on."""

    def on_measured(self, record: StepRecord) -> None:
        """Round 1: looks, and leaves wishes in the record."""

    def on_applied(self, record: StepRecord) -> None:
        """Round 2: the gradients are as the optimizer will see them."""

    def wants_updates(self, record: StepRecord) -> Wanted:
        """Whose relative updates at this step it wants to know."""
        return None

    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        """Once the step is over and its numbers are on the host: learns, and adds to ``result.scalars``.

        (Lightning would overwrite an attribute named `log`.)
        """

    def end_batch(self, trainer: Any, pl_module: Any) -> None:
        """At the end of a batch, when its steps are over."""

    def learned(self) -> dict[str, Any]:
        """What later steps are judged by, for `relearn`: all of its memory but the record of what was found."""
        return {}

    def relearn(self, state: dict[str, Any]) -> None:
        """Goes back to when `learned` was asked; the run went back too."""

    def record_event(self, event: GradientEvent) -> None:
        """Remembers an event that it found itself, once it is complete. What only explains another is not counted."""
        if is_finding(event.kind, event.severity):
            self.counts[event.kind.value] = self.counts.get(event.kind.value, 0) + 1

    @property
    def acts_as_asked(self) -> bool:
        """Whether what it changes is a limit of the user's own, so that acting often is what was asked for."""
        return False

    def intervene(self, result: StepResult, kind: InterventionKind, touch: Touch) -> None:
        """Counts what it changed at a step that is over."""
        self.interventions.add(kind, result.snapshot.step, touch)
        known = result.touches.get(kind)
        if known is None or (touch.factor or 1.0) < (known.factor or 1.0):
            result.touches[kind] = touch

    def members(self, layout: ParameterInfo) -> Members:
        """Indices of the parameters that `include` and `exclude` leave; None for all of them."""
        return self.selected(layout)[0]

    def view(self, snapshot: GradientSnapshot) -> GradientSnapshot:
        """The snapshot of those parameters."""
        members, layout = self.selected(snapshot.layout)
        return snapshot if members is None else snapshot.select(members, layout)

    def selected(self, layout: ParameterInfo) -> tuple[Members, ParameterInfo]:
        """Those indices, and the layout of what they choose."""
        if self.include is None and not self.exclude:
            return None, layout
        if self._selected is None or self._selected[0] is not layout:
            chosen = np.array([i for i, name in enumerate(layout.names) if self.chosen(name)], dtype=np.intp)
            self._selected = layout, (chosen, layout.select(chosen))
        return self._selected[1]

    def chosen(self, name: str) -> bool:
        """Whether `include` and `exclude` leave a parameter of this name."""
        inside = self.include is None or any(fnmatchcase(name, pattern) for pattern in self.include)
        return inside and not any(fnmatchcase(name, pattern) for pattern in self.exclude)
