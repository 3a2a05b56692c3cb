# SPDX-License-Identifier: Apache-2.0
"""What both detectors have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from typing_extensions import override

from lightning_gradwatch.arguments import some_of
from lightning_gradwatch.callbacks.base import GradientCallback
from lightning_gradwatch.compat.distributed import mean_over_ranks
from lightning_gradwatch.engine.investigation import Investigation
from lightning_gradwatch.engine.participant import Patterns
from lightning_gradwatch.engine.session import Session
from lightning_gradwatch.engine.step import StepRecord, StepResult
from lightning_gradwatch.events import Action, EventKind, GradientEvent
from lightning_gradwatch.lr.known import finds_rate
from lightning_gradwatch.output.console import tell
from lightning_gradwatch.output.tags import is_logged, tag
from lightning_gradwatch.rules import RuleSet
from lightning_gradwatch.rules.loss_history import Reduce
from lightning_gradwatch.rules.own import own_rules
from lightning_gradwatch.rules.rule import Rule
from lightning_gradwatch.state import LazyStateDict

SAMPLE_EVERY = 10
"""Steps between two looks at the relative updates of a few layers: one in ten finds 97 % of what every step finds."""

MOST_EVENTS = 1000
"""Events that a detector keeps; the oldest go first. Their counts go on."""


class Detector(GradientCallback):
    """Asks its rules at every optimizer step, one set of rules for each optimizer.

    Args:
        rules: The user's own.
        monitor: Name of a logged metric to use as the loss; None for the loss of the backward calls.
        ignore: Event kinds to mute.
        include: Name patterns of the parameters to judge.
        exclude: Name patterns of the parameters to leave out.
        name: Tells several instances apart.

    Attributes:
        events: What was found, the newest last; bounded.
    """

    diagnose = True
    action: Action

    def __init__(
        self,
        *,
        rules: Sequence[Rule],
        monitor: str | None,
        ignore: Sequence[str],
        include: Patterns,
        exclude: Patterns,
        name: str | None,
    ) -> None:
        super().__init__(name=name, include=include, exclude=exclude)
        if monitor is not None and not isinstance(monitor, str):
            raise TypeError(
                f"`monitor` must be the name of a logged metric, got {monitor!r}. Leave it out for the loss itself."
            )
        self.own_rules = own_rules(rules)
        self.monitor = monitor
        self.ignore = some_of("ignore", ignore, [kind.value for kind in EventKind])
        self.events: list[GradientEvent] = []
        self._rules: LazyStateDict[int, RuleSet] = LazyStateDict()
        self._told: set[str] = set()

    @abstractmethod
    def make_rules(self, reduce: Reduce | None, *, rivals: bool, finds_rate: bool) -> RuleSet:
        """The rules for one optimizer; `rivals` if there are others, `finds_rate` if it finds its rate by itself."""

    @abstractmethod
    def reaction(self, record: StepRecord, event: GradientEvent, rule: str) -> tuple[Action, str]:
        """What to do about an event that the rule of this name found, and a remark on it."""

    def rules(self, record: StepRecord) -> RuleSet:
        """The rules for the optimizer of this step."""

        def make() -> RuleSet:
            rivals = len(record.trainer.optimizers) > 1
            own = any(finds_rate(group) for group in record.watch.optimizer.param_groups)
            return self.make_rules(mean_over_ranks(record.trainer), rivals=rivals, finds_rate=own)

        return self._rules.get(record.where["optimizer"], make)

    @override
    def on_measured(self, record: StepRecord) -> None:
        if record.snapshot is None:
            return
        rules = self.rules(record)
        session = Session.of(record.trainer)
        failed, off = partial(self._failed, session), session.shield.broken(self)
        rules.losses.update(self._loss(record))
        if self.diagnose:
            session.diagnosis.follow(record)
            rules.learn(session.diagnosis.look, failed, off)
        view = self.view(record.snapshot)
        for rule, event in rules.findings(view, record.snapshot, failed, off):
            record.report(self, event, *self.reaction(record, event, rule))
        if self.diagnose:
            self._look_closer(record, session.diagnosis, wanted=rules.wants_look)

    def is_vital(self, rule: str) -> bool:
        """Whether the rule of this name decides about the training, so that it must not fail unnoticed."""
        return self.action != "warn"

    def _failed(self, session: Session, rule: str, error: Exception) -> None:
        """Switches a rule off that only warns; one that decides about the training must not fail unnoticed.

        A failure is the same on all ranks: rules see the same numbers there.
        """
        if self.is_vital(rule):
            raise error
        session.shield.give_up((self, rule), f"the rule {rule!r} of {type(self).__name__} failed", error)

    @override
    def record_event(self, event: GradientEvent) -> None:
        super().record_event(event)
        self.events.append(event)
        del self.events[:-MOST_EVENTS]

    @override
    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        if not is_logged(trainer, result.snapshot.log_step):
            return
        for kind, count in self.counts.items():
            label = tag(f"grad_event/{kind}", result.snapshot.optimizer, len(trainer.optimizers), self.name)
            result.scalars[label] = max(count, result.scalars.get(label, 0))  # a clipper counts less: no recoveries

    @override
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if trainer.world_size > 1:  # states are gathered already; rank zero's, with its losses, would be kept
            for rules in self._rules.values():
                rules.losses.share()
            checkpoint["callbacks"][self.state_key] = self.state_dict()

    @override
    def memory(self) -> dict[str, Any]:
        return {
            **super().memory(),
            "events": [event.to_dict() for event in self.events],
            "tripped": None if self.tripped is None else self.tripped.to_dict(),
        }

    @override
    def recall(self, state: dict[str, Any]) -> None:
        self.events = [GradientEvent.from_dict(event) for event in state["events"]]
        self.tripped = None if state["tripped"] is None else GradientEvent.from_dict(state["tripped"])
        super().recall(state)

    @override
    def learned(self) -> dict[str, Any]:
        return {"rules": self._rules.state_dict()}

    @override
    def relearn(self, state: dict[str, Any]) -> None:
        self._rules.load_state_dict(state["rules"])

    def _look_closer(self, record: StepRecord, diagnosis: Investigation, *, wanted: bool) -> None:
        """Adds to this step's findings what the batch tells of them, and has the modules looked into."""
        for finding in record.findings:
            if finding.owner is self:
                finding.event = diagnosis.explain(record, finding.event)
                diagnosis.look_into(record, self, finding.event)
        for event in diagnosis.results(record, self):
            record.report(self, event, "warn")
        if wanted:
            diagnosis.look_at_next()

    def _loss(self, record: StepRecord) -> float | None:
        if self.monitor is None:
            return record.snapshot.loss if record.snapshot is not None else None
        value = record.trainer.callback_metrics.get(self.monitor)
        if value is None and "monitor" not in self._told:
            self._told.add("monitor")
            known = ", ".join(sorted(record.trainer.callback_metrics)) or "none so far"
            line = f"monitor={self.monitor!r} is not logged yet (logged: {known}); until it is, progress is unknown."
            tell(record.trainer, f"[gradwatch] {line}")
        return None if value is None else float(value)
