# SPDX-License-Identifier: Apache-2.0
"""`LRDecay`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch.optim import LBFGS
from typing_extensions import override

from lightning_gradwatch.arguments import fraction, optional, positive, some_of, up_to_one, whole_number
from lightning_gradwatch.callbacks.base import GradientCallback
from lightning_gradwatch.callbacks.detector import Detector
from lightning_gradwatch.compat import lightning
from lightning_gradwatch.engine.interventions import Touch
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.engine.session import Session
from lightning_gradwatch.engine.step import StepRecord, StepResult, Wanted, Watched
from lightning_gradwatch.errors import GradwatchError
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.laws.trust_ratio import USUAL_LIMIT
from lightning_gradwatch.lr.backoff import BackOff, Scale
from lightning_gradwatch.lr.known import obeys_rate
from lightning_gradwatch.lr.scaled_step import ScaledStep
from lightning_gradwatch.lr.update_limit import UpdateLimit
from lightning_gradwatch.measurement.meter import to_host
from lightning_gradwatch.output.tags import is_logged, tag
from lightning_gradwatch.rules.notices import rate_limited
from lightning_gradwatch.snapshot import Floats
from lightning_gradwatch.state import LazyStateDict

USUAL_KINDS = ("spike", "explosion", "update_too_large", "nonfinite")
"""Events after which the learning rate gives way, unless others are asked for."""


class LRDecay(GradientCallback):
    """Multiplies the learning rate: by a schedule, and by a back-off after events, beside any other scheduler.

    The factor is applied when the optimizer steps and taken back right after, so that every scheduler, warm-up code and
    checkpoint sees its own learning rate, and nothing is ever applied twice. (`LearningRateMonitor` reads before the
    step; the effective rate is in the tags below.)

    Usually enough: ``LRDecay()`` next to an `ExplosionDetector`, or ``LRDecay(gamma=0.98, on=())`` for a plain
    schedule.

    After an event the rate is multiplied by `backoff`, held, and brought back geometrically. A relapse within 2,000
    steps lowers where it comes back to by a further 0.9; as many quiet steps forgive. An event whose harm was kept from
    the weights (the step was skipped, or clipped to below the limit: ``event.prevented``) is no reason to slow down,
    nor is a spike of severity warning, an outlier or data that is new to the model: they count only when `patience`
    steps in a row had one. Five spikes in a row are a new level of the run, which the detector takes for usual from
    then on, so by default six are asked for.

    With ``"update_too_large"`` in `on` it also sees such updates coming, from the first step on, where the optimizer is
    Adam, one of its kin or RMSprop: a rate that would move the weights by more than `max_update_ratio` is lowered for
    that step (`AdamLimit` has the formula), which an event of severity info tells. Clipping is of no use there, nor
    where a rate jumps under SGD: what the momentum has gathered would be multiplied with it. Then the rate stays what
    it was until that is spent (`MomentumHold`).

    Logs, with the Trainer's other scalars: ``grad_lr/scale`` (the multiplier) and ``grad_lr/<group>`` (the effective
    learning rate of each parameter group; ``group0``, or its ``"name"``).

    Args:
        gamma: The rate is multiplied by it each time, in (0, 1]; None for no schedule.
        every: ``"epoch"``, or a number of optimizer steps: when that is.
        on: Kinds of events that back off, of severity warning or alarm; empty for none. (YAML wants this key in
            quotes, and has ``Key must be a string, got: True`` otherwise.)
        backoff: Factor of one event, in (0, 1).
        cooldown_steps: Optimizer steps after an event in which further ones change nothing.
        hold_steps: Optimizer steps at the lowered rate.
        rewarm_steps: Optimizer steps to come back in.
        min_scale: The back-off goes no lower, in (0, 1]; `gamma` has no floor.
        patience: Optimizer steps in a row with harm that was prevented, or with a spike of severity warning, before it
            backs off for that; 1 is at once.
        max_update_ratio: Largest relative update by Adam (learning rate times the root of the number of weights, over
            their norm), or by the momentum of SGD where its rate jumps, that is left alone, above 0; None for no such
            limit.
        name: Tells several instances apart, in checkpoints and tags.

    Raises:
        ValueError: An argument is out of range, or there is neither `gamma` nor `on`.
        TypeError: An argument is of the wrong type.
        GradwatchError: At ``setup``: no `gamma`, and no detector in the Trainer whose events could be heard.

    Example:
        >>> LRDecay(gamma=0.98, every="epoch", on=()).describe()
        'learning rate x0.98 every epoch'
    """

    def __init__(
        self,
        *,
        gamma: float | None = None,
        every: Literal["epoch"] | int = "epoch",
        on: Sequence[str] = USUAL_KINDS,
        backoff: float = 0.5,
        cooldown_steps: int = 50,
        hold_steps: int = 100,
        rewarm_steps: int = 500,
        min_scale: float = 1 / 64,
        patience: int = 6,
        max_update_ratio: float | None = USUAL_LIMIT,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.gamma = None if gamma is None else up_to_one("gamma", gamma)
        self.every = _every(every)
        self.on = some_of("on", on, [kind.value for kind in EventKind])
        if self.gamma is None and not self.on:
            raise ValueError(
                "`gamma` must be given where `on` is empty, got None: there is nothing to do. Give one of both."
            )
        self._back_off: dict[str, Any] = {
            "backoff": fraction("backoff", backoff),
            "cooldown_steps": whole_number("cooldown_steps", cooldown_steps, least=0),
            "hold_steps": whole_number("hold_steps", hold_steps, least=0),
            "rewarm_steps": whole_number("rewarm_steps", rewarm_steps, least=0),
            "min_scale": up_to_one("min_scale", min_scale),
            "patience": whole_number("patience", patience),
        }
        self.max_update_ratio = optional(positive, "max_update_ratio", max_update_ratio)
        self._limit = self.max_update_ratio if EventKind.UPDATE_TOO_LARGE.value in self.on else None
        self._limits: LazyStateDict[int, UpdateLimit] = LazyStateDict()
        self._limited: dict[int, list[float]] = {}
        self._sound: dict[int, float] = {}
        self._scales: LazyStateDict[int, Scale] = LazyStateDict()
        self._lent = ScaledStep()

    @override
    def check(self, trainer: Any, pl_module: Any) -> None:
        if self.gamma is None and not any(isinstance(callback, Detector) for callback in trainer.callbacks):
            raise GradwatchError(
                "LRDecay() has nothing to do: `gamma` is None, and no detector is in the Trainer's callbacks whose"
                " events it could hear. Add an ExplosionDetector(), or give a schedule such as LRDecay(gamma=0.98)."
            )

    @override
    def describe(self) -> str:
        each = self.every if self.every == "epoch" else f"{self.every} steps"
        parts = [] if self.gamma is None else [f"learning rate x{self.gamma:g} every {each}"]
        kinds = "events" if self.on == USUAL_KINDS else ", ".join(self.on)
        parts += [f"learning rate x{self._back_off['backoff']:g} after {kinds}"] if self.on else []
        if self._limit is not None:
            parts.append(f"limit rates to updates of {self.max_update_ratio:g} of the weights")
        return "; ".join(parts)

    @override
    def notes(self, trainer: Any, watches: Sequence[OptimizerHooks]) -> list[str]:
        lines = []
        for watch in watches:
            name, groups = type(watch.optimizer).__name__, watch.optimizer.param_groups
            if not watch.hooked:
                lines.append(f"{name} does not tell when it steps: LRDecay leaves its learning rate alone")
            elif not all(obeys_rate(watch.optimizer, group) for group in groups):
                lines.append(f"{name} finds its learning rate by itself: LRDecay leaves it alone")
            elif self._limit is not None and self._limit_of(watch, self._limit).is_due:
                lines.append(f"{name} is not known: its rate is limited only once its first updates have been measured")
        return lines

    @override
    def begin(self, watch: OptimizerHooks) -> None:
        # The rate is set within the step, after the user's own code; LBFGS reads it before its closure, a GradScaler's
        # step runs after the hook.
        watch.on_begin.append(lambda: self._lend(watch) if watch.record or isinstance(watch.optimizer, LBFGS) else None)
        watch.on_over.append(lambda: self._lent.take_back(watch.index))

    def on_gradient_event(self, trainer: Any, pl_module: Any, event: GradientEvent) -> None:
        """Backs off, if the event is of a kind to react to; a loss that is NaN while no gradient is harms no weight.

        `Rewind` has it back off by itself.
        """
        harmless = event.kind is EventKind.NONFINITE and event.severity is Severity.WARNING
        reacts = event.kind.value in self.on and event.severity is not Severity.INFO and not harmless
        if reacts and event.kind is not EventKind.REWOUND:
            back_off = self._scale(event.optimizer).back_off
            outlier = event.kind is EventKind.SPIKE and event.severity is Severity.WARNING
            (back_off.prevent if event.prevented or outlier else back_off.trigger)()

    def retreat(self, optimizer: int, factor: float, times: int) -> float:
        """Backs off, whatever `on` says: the run went back to where this state was kept, for the `times`-th time.

        Returns:
            The back-off's multiplier from now on.
        """
        back_off = self._scale(optimizer).back_off
        back_off.retreat(factor, times)
        return back_off.scale

    @override
    def on_measured(self, record: StepRecord) -> None:
        record.lr_scale *= self._scale(record.watch.index).value

    @override
    def on_applied(self, record: StepRecord) -> None:
        scale = self._scale(record.watch.index)
        if record.watch.evaluations == 1:
            scale.step(record.where["epoch"])
        if self._limit is not None:
            self._limit_rates(record, self._limit, scale.value)
        if record.watch.stepping and record.ending is None:
            self._lend(record.watch)

    @override
    def wants_updates(self, record: StepRecord) -> Wanted:
        is_due = self._limit is not None and self._limit_of(record.watch, self._limit).is_due
        return "sample" if is_due else None

    @override
    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        scales = self._group_scales(result.watch)
        scale = min(scales, default=1.0)
        result.lr_scale *= scale
        self._count(result, scale)
        if self._limit is not None:
            watch = result.watch
            learn = self._limit_of(watch, self._limit).learn
            learn(watch.meter.layout, watch.groups, result.total_clipped, result.moved, scales)
        if not is_logged(trainer, result.snapshot.log_step):
            return
        values = {"grad_lr/scale": scale}
        for i, (group, own) in enumerate(zip(result.watch.optimizer.param_groups, scales, strict=True)):
            if group.get("lr") is not None:  # else the optimizer takes relative steps
                values[f"grad_lr/{group.get('name', f'group{i}')}"] = float(group["lr"]) * own
        where = result.watch.index, len(trainer.optimizers), self.name
        result.scalars.update({tag(stem, *where): value for stem, value in values.items()})

    def _count(self, result: StepResult, scale: float) -> None:
        """Counts a rate that was lowered; a schedule of the user's own is none of ours."""
        index = result.watch.index
        limited = min(self._limited.get(index, ()), default=1.0)
        backed_off = self._scale(index).back_off.scale
        if result.skipped or scale >= 1.0:
            return
        if backed_off < 1.0:
            self.intervene(result, "backed_off", Touch(backed_off))
        if limited < 1.0:
            self.intervene(result, "rate_lowered", Touch(limited, sound=self._sound.get(index)))

    @override
    def learned(self) -> dict[str, Any]:
        return {"scales": self._scales.state_dict(), "held": self._limits.state_dict()}

    @override
    def relearn(self, state: dict[str, Any]) -> None:
        self._scales.load_state_dict(state["scales"])
        self._limits.load_state_dict(state.get("held", {}))  # not in the checkpoints of the first versions

    def _scale(self, optimizer: int) -> Scale:
        return self._scales.get(optimizer, lambda: Scale(self.gamma, self.every, BackOff(**self._back_off)))

    def _lend(self, watch: Watched) -> None:
        self._lent.lend(watch.index, watch.optimizer.param_groups, self._group_scales(watch))

    def _group_scales(self, watch: Watched) -> list[float]:
        """[G] the whole multiplier of each group's rate."""
        scale, groups = self._scale(watch.index).value, watch.optimizer.param_groups
        limited = self._limited.get(watch.index) or [1.0] * len(groups)
        if scale == 1.0 and watch.index not in self._limited:
            return limited
        obeys = watch.hooked and all(obeys_rate(watch.optimizer, group) for group in groups)
        return [scale * own for own in limited] if obeys else [1.0] * len(groups)

    def _limit_of(self, watch: Watched, limit: float) -> UpdateLimit:
        return self._limits.get(watch.index, lambda: UpdateLimit(limit, watch.optimizer))

    def _limit_rates(self, record: StepRecord, limit: float, scale: float) -> None:
        """Finds what the coming step's rates have to be multiplied by, and tells of it."""
        watch, weights = record.watch, _weights(record)
        self._limited.pop(watch.index, None)
        layout, groups = watch.meter.layout, watch.groups
        limited = None if weights is None else self._limit_of(watch, limit).find(layout, weights, groups, scale)
        if limited is None:
            return
        self._limited[watch.index] = limited.scales
        rate = lightning.learning_rate(watch.optimizer)
        self._sound[watch.index] = (rate or 0.0) * limit / max(limited.ratios)
        if record.snapshot is not None and record.watch.evaluations == 1:
            told = rate_limited(record.snapshot, limit, limited.ratios, limited.scales)
            Session.of(record.trainer).dispatcher.emit(record.trainer, self, told)


def _every(every: object) -> str | int:
    try:
        return "epoch" if every == "epoch" else whole_number("every", every)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f'`every` must be "epoch" or a whole number of at least 1, got {every!r}. Give one of them.'
        ) from None


def _weights(record: StepRecord) -> Floats | None:
    """[P] norms of the weights; at the first step of all it may wait for them, later it takes those of before."""
    snapshot = record.snapshot
    if snapshot is not None and snapshot.layout is record.watch.meter.layout and snapshot.weight_norms is not None:
        return snapshot.weight_norms
    weights = record.numbers.get("weights")
    return None if weights is None else np.asarray(to_host(weights))
