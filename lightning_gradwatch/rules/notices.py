# SPDX-License-Identifier: Apache-2.0
"""What is told when a clipper or a learning rate gives way before anything was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.rule import blame, event
from lightning_gradwatch.rules.text import number, where
from lightning_gradwatch.snapshot import GradientSnapshot

_RATE, _OUTLIER = 5, 8  # rows of the remedy table


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
