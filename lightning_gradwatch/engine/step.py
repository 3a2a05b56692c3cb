# SPDX-License-Identifier: Apache-2.0
"""One optimizer step, shared by all callbacks: what was measured, what each wishes, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from lightning_gradwatch.engine.interventions import Touch
from lightning_gradwatch.errors import GradwatchError
from lightning_gradwatch.events import Action, GradientEvent
from lightning_gradwatch.laws import ElementwiseLaw, Law, TrustRatioClip
from lightning_gradwatch.measurement.meter import Meter, Reading
from lightning_gradwatch.snapshot import Bools, Floats, GradientSnapshot

Members = NDArray[np.intp] | None
"""Indices of parameters; None for all."""

Wanted = Literal["all", "sample"] | Sequence[int] | None
"""Whose relative updates a callback wants to know: all parameters in turn, a small sample of them, these, or none."""


class Owner(Protocol):
    """Who found an event: the part of `Participant` that a step needs."""

    name: str | None
    sort_key: tuple[str, str]
    counts: dict[str, int]
    tripped: GradientEvent | None
    diagnose: bool

    @property
    def error(self) -> type[GradwatchError]:
        """What an abort of its own raises."""

    def record_event(self, event: GradientEvent) -> None:
        """Keeps an event of its own."""


class Watched(Protocol):
    """An optimizer and its numbers: the part of `OptimizerState` that a result needs."""

    optimizer: Optimizer
    index: int
    is_engine: bool
    hooked: bool
    meter: Meter
    groups: list[NDArray[np.intp]]


class Stepped(Watched, Protocol):
    """An optimizer about to step: the part of `OptimizerHooks` that a record needs."""

    stepping: bool
    evaluations: int
    searches: bool

    def skip(self, record: StepRecord) -> None:
        """Makes the coming step a no-op."""

    def skip_on_device(self, found_inf: Tensor) -> None:
        """Makes the coming step a no-op where `found_inf` is 1.0."""

    def limit_engine(self, max_norm: float) -> None:
        """Has DeepSpeed clip the coming step."""

    def weigh_next(self) -> None:
        """Has the norms of the weights measured at the next step."""


@dataclass(slots=True)
class Finding:
    """An event, who found it, what the finder wants done, and a remark on that, such as a count."""

    owner: Owner
    event: GradientEvent
    action: Action
    remark: str = ""


@dataclass(slots=True)
class StepRecord:
    """One optimizer step. Round 1 writes requests into it, `apply_actions` carries them out, round 2 reads.

    Attributes:
        trainer: The Trainer.
        pl_module: The LightningModule.
        watch: What is known of the optimizer.
        reading: This step's gradients, measured, on the device.
        scale: What the gradients are still multiplied by, or None.
        where: The position in the run, as the last five fields of a snapshot.
        numbers: What will be a snapshot, still on the device, by name.
        lagged: Whether `snapshot` is of the step before: on CUDA, where nobody has to act at once.
        snapshot: What is judged; None at the first lagged step.
        findings: What was found in round 1.
        clips: Laws to clip by, with the parameters that each speaks of (None for all).
        elementwise: The same for laws that act entry by entry.
        bounds: What limits the relative updates beside the laws.
        lr_scale: What the learning rate is going to be multiplied by, as far as known.
        culprit: The rank whose loss made the gradient non-finite, where that can be told.
        skip: Whether somebody wants the step to be a no-op.
        guard: Whether it is to be one if a gradient is non-finite, which the host does not know yet.
        skipped: Whether it is one, as far as the host knows.
        bad: 0-dim, 1.0 where the device finds a gradient that is not finite; None where the host judges that.
        earlier: The step that is judged, where that is the one before.
        edited: Whether the gradients are to be measured again once the step is over, since others may have changed
            them.
        factor: The smallest factor applied; a tensor where the host was not to wait for it.
        bound_factor: The smallest factor that a bound applied on top of the laws, likewise.
        total_clipped: L2 norm after clipping; a tensor likewise.
        scalars: What the callbacks want logged, by tag.
    """

    trainer: Any
    pl_module: Any
    watch: Stepped
    reading: Reading
    scale: Tensor | float | None
    where: dict[str, int]
    numbers: dict[str, Tensor | Floats | Bools]
    lagged: bool = False
    snapshot: GradientSnapshot | None = None
    findings: list[Finding] = field(default_factory=list)
    clips: list[tuple[Law, Members]] = field(default_factory=list)
    elementwise: list[tuple[ElementwiseLaw, Members]] = field(default_factory=list)
    bounds: list[TrustRatioClip] = field(default_factory=list)
    lr_scale: float = 1.0
    culprit: int | None = None
    skip: bool = False
    guard: bool = False
    skipped: bool = False
    bad: Tensor | None = None
    earlier: StepResult | None = None
    edited: bool = False
    factor: float | Tensor = 1.0
    bound_factor: float | Tensor = 1.0
    total_clipped: float | Tensor = 0.0
    scalars: dict[str, float] = field(default_factory=dict)

    def report(self, owner: Owner, event: GradientEvent, action: Action, remark: str = "") -> None:
        """Round 1: `owner` found something and wants `action`."""
        self.findings.append(Finding(owner, event, action, remark))
        self.skip |= action == "skip"

    @property
    def ending(self) -> Finding | None:
        """The finding that ends the run, if any; an abort before a stop."""
        if not self.findings:
            return None
        ends = [finding for finding in self.findings if finding.action in ("abort", "stop")]
        return min(ends, key=lambda finding: finding.action, default=None)


@dataclass(slots=True)
class StepResult:
    """A step that is over, as numbers on the host.

    Attributes:
        watch: The optimizer and its numbers.
        snapshot: Its gradients.
        moved: [P] norms of the change of the weights, NaN where not measured; None if nowhere.
        weights: [P] norms of the weights before, likewise.
        factor: The smallest clip factor.
        total_clipped: L2 norm after whoever clipped last.
        scalars: What goes to the loggers, by tag.
        limit: The clip limit that was in force; inf where nothing was limited yet, None without a clip law.
        lr_scale: What the learning rate was multiplied by.
        bound_factor: The smallest factor that a bound applied on top of the laws.
        skipped: Whether the step was made a no-op.
        touches: What our callbacks changed at this step, by kind.
        notable: Whether something new was found at this step, so that it is logged out of turn.
        recorded: Whether the TensorBoard plugin is to get this step, with all its layers.
    """

    watch: Watched
    snapshot: GradientSnapshot
    moved: Floats | None
    weights: Floats | None
    factor: float
    total_clipped: float
    scalars: dict[str, float]
    limit: float | None = None
    lr_scale: float = 1.0
    recorded: bool = False
    bound_factor: float = 1.0
    skipped: bool = False
    touches: dict[str, Touch] = field(default_factory=dict)
    notable: bool = field(init=False)

    def __post_init__(self) -> None:
        self.notable = bool(self.scalars)  # so far they hold nothing but events
