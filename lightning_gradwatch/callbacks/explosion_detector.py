# SPDX-License-Identifier: Apache-2.0
"""`ExplosionDetector`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.optim import Optimizer
from typing_extensions import override

from lightning_gradwatch.arguments import above_one, one_of, optional, positive, whole_number
from lightning_gradwatch.callbacks.detector import SAMPLE_EVERY, Detector
from lightning_gradwatch.compat import lightning
from lightning_gradwatch.engine.compatibility import refuse_action
from lightning_gradwatch.engine.interventions import Touch
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.engine.participant import Patterns
from lightning_gradwatch.engine.step import StepRecord, StepResult, Wanted
from lightning_gradwatch.events import Action, EventKind, GradientEvent, Severity
from lightning_gradwatch.laws import NormClip
from lightning_gradwatch.measurement.updates import UpdateBound
from lightning_gradwatch.replay.recorder import ReplayRecorder
from lightning_gradwatch.rules import RuleSet, explosion_rules
from lightning_gradwatch.rules.loss_history import Reduce
from lightning_gradwatch.rules.own import fresh_copies
from lightning_gradwatch.rules.rule import Rule
from lightning_gradwatch.rules.skip_budget import SkipBudget
from lightning_gradwatch.snapshot import Floats
from lightning_gradwatch.state import LazyStateDict

_OF_THIS_STEP = ("limits", "spike")
"""Rules whose findings are known before the step is taken."""

_MILD = 1.5  # times the limit, which rests on some fifty norms
_PAST = {"clip": "clipped", "skip": "skipped"}


class ExplosionDetector(Detector):
    """Finds gradients that explode: non-finite ones, spikes, growth, updates that the weights cannot bear.

    And what comes with them: a loss that climbs above its start, inputs and targets far from order 1.

    Usually enough: `action`, one absolute limit (`max_norm`), `patience`. The other rules compare with what is normal
    for the run, so they need no number of yours and do not depend on the scale of the loss.

    What acts: events of severity alarm; under ``"clip"`` and ``"skip"`` also every spike; absolute limits always. What
    is known only from a window or after the step (growth, an update too large) cannot be clipped or skipped and warns
    instead. Skipping is bounded, so that a lasting change of level can never lock a run in: after 5 finite steps
    skipped in a row the gradient is clipped and let through.

    Logs ``grad_event/<kind>``, a running count: with each event that is news, and with the Trainer's other scalars.

    Args:
        action: ``"warn"``: event and message. ``"clip"``: the gradient is scaled to the limit that it broke.
            ``"skip"``: the step is a true no-op; weights, optimizer state and step counters stay. ``"stop"``: the
            training ends cleanly on all ranks, at once, with the weights from before the bad step. ``"abort"``: raises
            `GradientExplosionError` on all ranks, after everything was logged.
        nonfinite: What to do about NaN and inf: ``"warn"``, ``"skip"``, ``"stop"`` or ``"abort"``. Under a GradScaler,
            which skips them itself, they are its calibration and no event until it is stuck.
        max_norm: Absolute limit for the L2 norm over all parameters, above 0.
        max_abs: Absolute limit for the largest entry, above 0.
        patience: Consecutive steps beyond an absolute limit, or beyond a rule's own window, before it acts; 1 is at
            once.
        max_skips: Non-finite gradients skipped in a row before the run is aborted; 0 aborts at the first.
        window: Optimizer steps that make what is normal, at least 10.
        warmup_steps: Optimizer steps before spikes are judged by statistics; until then only by ``spike_factor**2``,
            which falls to `spike_factor` within the window.
        spike_factor: A spike is at least this many times the median of the window, above 1.
        spike_z: And this many robust standard deviations of log(norm) above it.
        growth_factor: Growth of the norm over a window, with the loss rising, that is an explosion; above 1.
        max_update_ratio: Relative update (norm of the change over norm of the weight) that is too large, above 0.
        rules: Rules of your own, asked beside the others: objects with ``judge(snapshot)``, ``state_dict()`` and
            ``load_state_dict()``; each optimizer gets copies.
        monitor: Name of a logged metric to use as the loss; needed with several backward calls per step. On CUDA
            reading it waits for the device.
        dump_dir: Folder for the batch, the random numbers and the weights from before the step of an alarm
            (``nonfinite``, ``spike``, ``explosion``), one file per rank, to replay it; None keeps nothing and costs
            nothing. Else buffers are copied at each batch, and on CUDA every step waits for the device. Of a kind that
            repeats itself the first is kept, and the next after 500 quiet steps.
        max_dumps: Files per rank to keep, the newest; at least 1.
        ignore: Event kinds to mute, such as ``["spike"]``; a muted kind does not act either. ``"nonfinite"`` is muted
            only with ``nonfinite="warn"``.
        include: Name patterns (fnmatch) of the parameters to judge; non-finite gradients are looked for in all.
        exclude: Name patterns of the parameters to leave out.
        name: Tells several instances apart, in checkpoints and tags.

    Attributes:
        events: What was found, the newest last; at most 1,000.
        tripped: The event that ended the run, or None.

    Raises:
        ValueError: An argument is out of range.
        TypeError: An argument is of the wrong type.
        GradientExplosionError: During training, where the action is ``"abort"`` or too many steps were skipped.

    Example:
        >>> detector = ExplosionDetector(action="stop", max_norm=100.0)
        >>> detector.events
        []
    """

    def __init__(
        self,
        *,
        action: Literal["warn", "clip", "skip", "stop", "abort"] = "warn",
        nonfinite: Literal["warn", "skip", "stop", "abort"] = "skip",
        max_norm: float | None = None,
        max_abs: float | None = None,
        patience: int = 1,
        max_skips: int = 20,
        window: int = 50,
        warmup_steps: int = 20,
        spike_factor: float = 10.0,
        spike_z: float = 6.0,
        growth_factor: float = 30.0,
        max_update_ratio: float = 0.5,
        rules: Sequence[Rule] = (),
        monitor: str | None = None,
        dump_dir: str | Path | None = None,
        max_dumps: int = 3,
        ignore: Sequence[str] = (),
        include: Patterns = None,
        exclude: Patterns = None,
        name: str | None = None,
    ) -> None:
        super().__init__(rules=rules, monitor=monitor, ignore=ignore, include=include, exclude=exclude, name=name)
        self._recorder = ReplayRecorder(dump_dir, max_dumps, name)
        self.action: Action = one_of("action", action, ("warn", "clip", "skip", "stop", "abort"))
        self.nonfinite: Action = one_of("nonfinite", nonfinite, ("warn", "skip", "stop", "abort"))
        self.max_abs = optional(positive, "max_abs", max_abs)
        self.max_skips = whole_number("max_skips", max_skips, least=0)
        self.max_update_ratio = positive("max_update_ratio", max_update_ratio)
        self._settings: dict[str, Any] = {
            "max_norm": optional(positive, "max_norm", max_norm),
            "max_abs": self.max_abs,
            "patience": whole_number("patience", patience),
            "window": whole_number("window", window, least=10),
            "warmup_steps": whole_number("warmup_steps", warmup_steps, least=3),
            "spike_factor": above_one("spike_factor", spike_factor),
            "spike_z": positive("spike_z", spike_z),
            "growth_factor": above_one("growth_factor", growth_factor),
            "max_update_ratio": self.max_update_ratio,
            # What keeps NaN out of the weights is not muted with the message about it.
            "ignore": [kind for kind in self.ignore if kind != "nonfinite" or self.nonfinite == "warn"],
        }
        self.skips = self.nonfinite != "warn" or self.action in ("skip", "stop", "abort")
        self._budgets: LazyStateDict[int, SkipBudget] = LazyStateDict()
        self._bounds: dict[int, UpdateBound] = {}
        self._acted: dict[int, str] = {}
        self._passed: dict[int, int] = {}
        self._suspects: tuple[Floats | None, Wanted] = (None, None)

    @override
    def describe(self) -> str:
        acts = [] if self.action == "warn" else [f"{self.action} on alarms"]
        acts += (
            []
            if self.nonfinite == "warn"
            else [f"{self.nonfinite}{' ' if self.nonfinite == 'skip' else ' on '}NaN and inf"]
        )
        return "; ".join(acts)

    @override
    def begin(self, watch: OptimizerHooks) -> None:
        refuse_action(watch, self.action, self.nonfinite, self.members(watch.meter.layout))

    @override
    def acts_at_once(self, optimizer: Optimizer, *, scaled: bool) -> bool:
        skips_itself = scaled or lightning.skips_on_device(optimizer)
        waits = self.nonfinite in ("stop", "abort") or (self.nonfinite == "skip" and not skips_itself)
        return waits or self.action != "warn" or self._recorder.is_on

    @override
    def wants_max_abs(self, trainer: Any, log_step: int) -> bool:
        return self.max_abs is not None

    @override
    def make_rules(self, reduce: Reduce | None, *, rivals: bool, finds_rate: bool) -> RuleSet:
        own = fresh_copies(self.own_rules)
        return explosion_rules(**self._settings, own=own, reduce=reduce, rivals=rivals, finds_rate=finds_rate)

    @override
    def is_vital(self, rule: str) -> bool:
        return (self.nonfinite if rule == "nonfinite" else self.action) != "warn"

    @override
    def on_measured(self, record: StepRecord) -> None:
        record.guard |= self.nonfinite == "skip"
        if record.snapshot is None:
            return
        budget = self._budget(record)
        budget.next_step()
        super().on_measured(record)
        for finding in record.findings:
            if finding.owner is self and self.action == "warn" and _is_mild(finding.event):
                finding.event = replace(finding.event, severity=Severity.INFO)
        acted = [f.action for f in record.findings if f.owner is self and f.action in ("skip", "clip")]
        if acted:
            self._acted[record.watch.index] = "skip" if "skip" in acted else "clip"
        else:
            budget.sound()

    @override
    def reaction(self, record: StepRecord, event: GradientEvent, rule: str) -> tuple[Action, str]:
        if event.kind is EventKind.NONFINITE and event.severity is Severity.ALARM:
            return self._budget(record).nonfinite() if self.nonfinite == "skip" else (self.nonfinite, "")
        local = rule in _OF_THIS_STEP and event.kind is not EventKind.LEVEL_SHIFT
        acts = event.severity is Severity.ALARM or (local and self.action in ("clip", "skip"))
        if self.action in ("stop", "abort"):
            return self._reaction_of_an_end(record, event, acts=acts)
        if not acts or self.action == "warn":
            return (self.action if acts else "warn"), ""
        if self.action == "clip" and record.watch.searches:
            return "warn", "the optimizer searches along its gradients, which must stay as they are"
        if not local:
            return "warn", f"what is known only after the step cannot be {_PAST[self.action]}"
        action, remark = self._budget(record).finite() if self.action == "skip" else (self.action, "")
        if action == "clip":
            self._clip_to(record, event)
        return action, remark

    def _reaction_of_an_end(self, record: StepRecord, event: GradientEvent, *, acts: bool) -> tuple[Action, str]:
        """The run ends at an alarm; what is no alarm passes, and is remembered, since its step was taken."""
        index, step = record.where["optimizer"], record.where["step"]
        if not acts:
            if event.severity is not Severity.INFO:
                self._passed[index] = step
            return "warn", f"only an alarm makes action={self.action!r} act"
        passed = self._passed.get(index)
        recent = passed is not None and step - passed <= self._settings["window"]
        return self.action, f"the step of the warning at {passed} was taken" if recent else ""

    @override
    def wants_updates(self, record: StepRecord) -> Wanted:
        if record.snapshot is None or record.snapshot.layout is not record.watch.meter.layout:
            return None
        bound = self._bounds.get(record.watch.index)
        if bound is None:
            bound = self._bounds[record.watch.index] = UpdateBound()
        bounds = bound.of(record.watch.optimizer.param_groups, record.watch.groups, record.snapshot)
        if bounds is None:
            return "sample" if record.where["step"] % SAMPLE_EVERY == 0 else None
        if bounds is not self._suspects[0]:  # under Adam they are the same as long as weights and rates are
            self._suspects = bounds, np.flatnonzero(bounds > self.max_update_ratio).tolist() or None
        return self._suspects[1]

    @override
    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        snapshot = result.snapshot
        wanted = self._acted.pop(snapshot.optimizer, None)
        if result.skipped and (wanted == "skip" or (self.nonfinite == "skip" and not math.isfinite(snapshot.total))):
            self.intervene(result, "skipped", Touch())
        elif wanted == "clip" and not result.skipped and result.factor < 1.0:
            self.intervene(result, "clipped", Touch(result.factor, sound=snapshot.total))
        super().on_step_end(trainer, result)

    @override
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self._on:
            self._recorder.begin_batch(trainer, pl_module, batch, batch_idx)

    @override
    def on_applied(self, record: StepRecord) -> None:
        self._recorder.end_step()

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._recorder.end_batch()
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._recorder.close()
        super().on_exception(trainer, pl_module, exception)

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._recorder.close()
        super().teardown(trainer, pl_module, stage)

    @override
    def record_event(self, event: GradientEvent) -> None:
        super().record_event(event)
        self._recorder.record(event)

    @override
    def memory(self) -> dict[str, Any]:
        dumps = {"dumps": self._recorder.state_dict()} if self._recorder.is_on else {}
        return {**super().memory(), **dumps}

    @override
    def recall(self, state: dict[str, Any]) -> None:
        super().recall(state)
        if "dumps" in state:
            self._recorder.load_state_dict(state["dumps"])

    @override
    def learned(self) -> dict[str, Any]:
        return {**super().learned(), "budgets": self._budgets.state_dict(), "passed": dict(self._passed)}

    @override
    def relearn(self, state: dict[str, Any]) -> None:
        super().relearn(state)
        self._budgets.load_state_dict(state["budgets"])
        self._passed = dict(state.get("passed", {}))  # not in the checkpoints of the first versions

    def _budget(self, record: StepRecord) -> SkipBudget:
        return self._budgets.get(record.where["optimizer"], lambda: SkipBudget(self.max_skips))

    def _clip_to(self, record: StepRecord, event: GradientEvent) -> None:
        """Wishes for a gradient scaled so that the value which broke the limit meets it."""
        assert record.snapshot is not None
        total = self.view(record.snapshot).total
        limit = total * event.limit / event.value
        record.clips.append((NormClip(max_norm=limit), self.members(record.snapshot.layout)))


def _is_mild(event: GradientEvent) -> bool:
    """Whether a spike is so little above its limit that it tells of the tail of the losses rather than of a fault.

    Not where the evidence names a cause.
    """
    mild = event.kind is EventKind.SPIKE and event.severity is Severity.WARNING and event.value < _MILD * event.limit
    return mild and (event.cause or "").startswith("outlier batch (")
