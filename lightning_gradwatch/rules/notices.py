# SPDX-License-Identifier: Apache-2.0
"""What is told when a clipper or a learning rate gives way before anything was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lightning_gradwatch.events import EventKind, GradientEvent, Remedy, Severity
from lightning_gradwatch.rules.remedies import remedies
from lightning_gradwatch.rules.rule import blame, event
from lightning_gradwatch.rules.text import number, where
from lightning_gradwatch.snapshot import GradientSnapshot

_RATE, _OUTLIER = 5, 8  # rows of the remedy table
_OFTEN = 10.0  # touched steps of a hundred


def rate_limited(
    snapshot: GradientSnapshot, limit: float, ratios: Sequence[float], scales: Sequence[float]
) -> GradientEvent:
    """A learning rate was lowered for one step.

    Args:
        snapshot: The latest one.
        limit: The largest relative update that is left alone.
        ratios: [G] of the parameter groups, as they would have been.
        scales: [G] what their rates were multiplied by.
    """
    told = event(
        snapshot,
        EventKind.UPDATE_TOO_LARGE,
        Severity.INFO,
        _RATE,
        layers=(),
        value=max(ratios),
        limit=limit,
        message=f"a step would move the weights by {number(max(ratios))}x their norm, limit {number(limit)}",
    )
    return replace(told, action_taken=f"learning rate x{min(scales):.2g} for this step", prevented=True)


def clipped_hard(snapshot: GradientSnapshot, total: float, factor: float, *, by_bound: bool) -> GradientEvent:
    """A gradient was clipped to a small part of itself.

    Args:
        snapshot: The gradient as it was.
        total: Its L2 norm after clipping.
        factor: The smallest factor.
        by_bound: Whether its norm is usual, and the weights would not have borne the step.
    """
    parts = blame(snapshot)
    why = ": a step would move some weights by more than they can bear" if by_bound else ""
    told = event(
        snapshot,
        EventKind.UPDATE_TOO_LARGE if by_bound else EventKind.SPIKE,
        Severity.INFO,
        _RATE if by_bound else _OUTLIER,
        layers=[layer for layer, _ in parts],
        value=snapshot.total,
        limit=total,
        message=f"grad norm {number(snapshot.total)} was clipped to {number(total)}{why}\n{where(parts)}",
    )
    return replace(told, action_taken=f"clipped x{factor:.2g}; training continues", prevented=True)


HELD = {
    "bounded": "the update of some layer was bounded",
    "clipped": "the gradient was clipped",
    "rate_lowered": "the learning rate was lowered",
}
"""Kinds of intervention that may hold a run up, in words."""


def held(
    snapshot: GradientSnapshot, kind: str, steps: int, factor: float | None, sound: float | None, *, asked: bool
) -> GradientEvent:
    """The training was changed at more than one step in ten of the last hundred.

    Args:
        snapshot: The latest one.
        kind: What was done, a key of `HELD`.
        steps: Steps that were touched so far.
        factor: Geometric mean of what was left, or None.
        sound: The setting that would have made it unnecessary, or None.
        asked: Whether the user's own limit did it, so that it is no warning.
    """
    left = "" if factor is None else f", to x{number(factor)} on average"
    told = event(
        snapshot,
        EventKind.HELD,
        Severity.INFO if asked else Severity.WARNING,
        _OUTLIER if kind == "clipped" else _RATE,
        layers=(),
        value=float(steps),
        limit=_OFTEN,
        message=f"{HELD[kind]} at {steps} steps so far{left}, and at more than 10 of the last 100",
        cause="the limit is below what is usual here" if kind == "clipped" else "the learning rate is too high",
    )
    if sound is not None:
        told = replace(told, remedies=(_setting(kind, sound), *told.remedies[: 0 if kind == "clipped" else 1]))
    return replace(told, action_taken="it goes on being changed where needed", prevented=True)


def _setting(kind: str, sound: float) -> Remedy:
    row = remedies(_OUTLIER if kind == "clipped" else _RATE)[0]
    what = "a limit of" if kind == "clipped" else "a learning rate of"
    return replace(row, text=f"{what} {number(sound)} would have needed no help")


def ended_elsewhere(snapshot: GradientSnapshot) -> GradientEvent:
    """Another rank, whose gradients are its own, has ended the training."""
    return event(
        snapshot,
        EventKind.EXPLOSION,
        Severity.ALARM,
        _RATE,
        layers=(),
        value=snapshot.total,
        limit=snapshot.total,
        message="another rank has ended the training; its own message says why",
        cause="what that rank has found",
    )
