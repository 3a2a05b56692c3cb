# SPDX-License-Identifier: Apache-2.0
"""Several rules as one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.nonfinite import NonFinite
from lightning_gradwatch.rules.probe_reading import ProbeReading, ProbeRule
from lightning_gradwatch.rules.rule import Rule
from lightning_gradwatch.rules.spike import Spike
from lightning_gradwatch.snapshot import GradientSnapshot

Failed = Callable[[str, Exception], None]
"""Takes note of a rule that failed, by name, or raises."""


def _raise(rule: str, error: Exception) -> None:
    raise error


class RuleSet:
    """Rules for one optimizer, asked in a fixed order, with the losses that they share.

    Feed ``losses.update(loss)`` once per optimizer step, before `judge`.

    Args:
        rules: By name, which is the key of their state.
        losses: What the rules ask about progress.
        ignore: Kinds of events to drop.
    """

    def __init__(self, rules: Mapping[str, Rule], losses: LossHistory, ignore: Iterable[EventKind | str] = ()) -> None:
        self.rules = dict(rules)
        self.losses = losses
        self._asked = [(name, rule, isinstance(rule, NonFinite)) for name, rule in self.rules.items()]
        self._learners = [rule for rule in rules.values() if isinstance(rule, ProbeRule)]
        self._ignore = {EventKind(kind) for kind in ignore}

    @property
    def spike(self) -> Spike | None:
        """The rule whose limit the coming step may be clipped to, if it is in the set."""
        return next((rule for rule in self.rules.values() if isinstance(rule, Spike)), None)

    def learn(self, look: ProbeReading | None, failed: Failed = _raise, off: Collection[str] = ()) -> None:
        """Hands a look to the rules that learn from looks; `failed` and `off` as in `findings`."""
        if look is None:
            return
        for name, rule in self.rules.items():
            if isinstance(rule, ProbeRule) and name not in off:
                try:
                    rule.learn(look)
                except Exception as error:  # a mistake of ours, of any kind; `failed` raises it where it must not pass
                    failed(name, error)

    @property
    def wants_look(self) -> bool:
        """Whether a rule has reason to look at the units of the next batch."""
        return any(rule.wants_look for rule in self._learners)

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """What all rules find at this step. All of them learn, also those whose kinds are ignored."""
        return [event for _, event in self.findings(snapshot, snapshot)]

    def findings(
        self, part: GradientSnapshot, whole: GradientSnapshot, failed: Failed = _raise, off: Collection[str] = ()
    ) -> Iterator[tuple[str, GradientEvent]]:
        """The same with the names of the rules that found it.

        Args:
            part: The parameters to judge.
            whole: All of them: one NaN in one layer reaches all weights with the next forward pass.
            failed: Called with what a rule raised, which finds nothing then.
            off: Names of rules that are not to be asked.
        """
        for name, rule, of_all in self._asked:
            if name in off:
                continue
            try:
                found = rule.judge(whole if of_all else part)
            except Exception as error:  # a mistake of ours, of any kind; `failed` raises it where it must not pass
                failed(name, error)
                continue
            for event in found:
                if event.kind not in self._ignore:
                    yield name, event

    def state_dict(self) -> dict[str, Any]:
        """The memory of all rules and the losses."""
        rules = {name: rule.state_dict() for name, rule in self.rules.items()}
        return {"rules": rules, "losses": self.losses.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken; a rule that was not there then starts afresh."""
        self.losses.load_state_dict(state["losses"])
        for name, rule in self.rules.items():
            if name in state["rules"]:
                rule.load_state_dict(state["rules"][name])
