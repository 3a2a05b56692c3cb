# SPDX-License-Identifier: Apache-2.0
"""Rules that a user brings along."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from lightning_gradwatch.events import EventKind, GradientEvent, Remedy, Severity
from lightning_gradwatch.rules.rule import Rule, position
from lightning_gradwatch.snapshot import GradientSnapshot

_METHODS = ("judge", "state_dict", "load_state_dict")


def finding(
    snapshot: GradientSnapshot,
    message: str,
    *,
    value: float,
    limit: float,
    layers: Sequence[str] = (),
    severity: Severity = Severity.WARNING,
    kind: EventKind = EventKind.CUSTOM,
    cause: str | None = None,
    remedies: Sequence[str] = (),
) -> GradientEvent:
    """What a rule of your own says of a step.

    Args:
        snapshot: The step that was judged.
        message: The evidence, in one line; further lines are ``label: text``.
        value: What was measured.
        limit: What it was held against.
        layers: The layers at fault, worst first.
        severity: Only an alarm makes the detector act.
        kind: ``custom``, or one of ours where it fits.
        cause: What is likely, if you know it.
        remedies: What to try, cheapest first.
    """
    return GradientEvent(
        kind=kind,
        severity=severity,
        **position(snapshot),
        layers=tuple(layers),
        value=float(value),
        limit=float(limit),
        message=message,
        cause=cause,
        remedies=tuple(Remedy("OWN", text, "a rule of the user's own") for text in remedies),
    )


def own_rules(given: object) -> tuple[Rule, ...]:
    """The rules of a user's list, each checked.

    Raises:
        TypeError: `given` is no list of rules.
    """
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
        raise TypeError(f"`rules` must be a list of rules, got {given!r}. Put your rule into a list.")
    rules: tuple[Rule, ...] = tuple(given)
    for rule in rules:
        missing = [name for name in _METHODS if not callable(getattr(rule, name, None))]
        if missing or isinstance(rule, type):
            lacks = "is a class, not an object" if isinstance(rule, type) else f"has no {missing[0]}()"
            raise TypeError(
                f"`rules` must hold objects with judge(), state_dict() and load_state_dict(), but {rule!r} {lacks}."
            )
    return rules


def fresh_copies(rules: Sequence[Rule]) -> dict[str, Rule]:
    """A copy of each, by a name under which a checkpoint keeps its state; one set for each optimizer."""
    return {f"{type(rule).__name__} {i}": copy.deepcopy(rule) for i, rule in enumerate(rules)}


def assert_scale_free(
    make: Callable[[], Rule], snapshots: Sequence[GradientSnapshot], factors: Iterable[float] = (1e-6, 1e6)
) -> None:
    """Fails unless a rule finds the same when the loss, and with it every gradient, is multiplied.

    Args:
        make: Makes a new rule.
        snapshots: What it is to judge, in order; of a run in which it finds something.
        factors: To multiply by.

    Raises:
        AssertionError: It found something else, or nothing at all.
    """
    plain = _found(make(), snapshots)
    assert plain, "the rule finds nothing in these snapshots, so that the test would prove nothing"
    for factor in factors:
        scaled = [
            replace(s, norms=s.norms * factor, loss=None if s.loss is None else s.loss * factor) for s in snapshots
        ]
        found = _found(make(), scaled)
        assert found == plain, f"with the loss times {factor:g} the rule found {found}, else {plain}"


def _found(rule: Rule, snapshots: Sequence[GradientSnapshot]) -> list[tuple[str, str, int, tuple[str, ...]]]:
    events: list[GradientEvent] = [event for snapshot in snapshots for event in rule.judge(snapshot)]
    return [(event.kind.value, event.severity.value, event.step, event.layers) for event in events]
