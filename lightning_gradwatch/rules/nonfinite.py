# SPDX-License-Identifier: Apache-2.0
"""NaN and inf: where they are, and what that says about where they were made."""

from __future__ import annotations

from math import isfinite, isinf
from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import listed, number
from lightning_gradwatch.snapshot import GradientSnapshot, by_layer

_MOST_OVERFLOWS = 12  # in a row: each halves the scale, and one that starts at 2**16 has found its place by then
_FIRST_STEPS = 2
_QUIET = 50  # own steps without a bad loss, after which the next one is news
_MADE = 10  # row of the remedy table


class NonFinite:
    """Finds NaN and inf in gradients, one event per step.

    Under a GradScaler an overflow is its way of finding the scale, and it skips the step itself: that is counted, not
    reported, until it happens more than 12 times in a row or the scale falls below 1 (`scaler_stuck`, once).

    A loss that is not finite while the gradients are is a warning, told once and again after 50 steps without one. With
    several ranks it finds nothing: each knows its own only, and to ask all of them at every step would cost a
    collective. Nor of an infinite one under a GradScaler: what overflowed may be the loss times its scale.

    Args:
        alone: Whether this rank's loss is the loss of the run.

    Attributes:
        overflows: Steps that the GradScaler skipped so far.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self.overflows = 0
        self._alone = alone
        self._in_a_row = 0
        self._stuck = False
        self._sound = _QUIET  # steps in a row without a bad loss

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks at this step's gradients."""
        bad = not isfinite(snapshot.total) and not np.isfinite(snapshot.norms).all()
        told = [] if bad else self._loss_alone(snapshot)
        if snapshot.loss_scale is not None:
            return self._scaled(snapshot, snapshot.loss_scale, overflow=bad) + told
        return [_found(snapshot)] if bad else told

    def state_dict(self) -> dict[str, Any]:
        """Counts of overflows."""
        counts = {"overflows": self.overflows, "in_a_row": self._in_a_row, "stuck": self._stuck}
        return {**counts, "sound": self._sound}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self.overflows, self._in_a_row, self._stuck = state["overflows"], state["in_a_row"], state["stuck"]
        self._sound = state.get("sound", _QUIET)

    def _loss_alone(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        if not self._alone or snapshot.loss is None or (snapshot.loss_scale is not None and isinf(snapshot.loss)):
            return []
        before, self._sound = self._sound, self._sound + 1 if isfinite(snapshot.loss) else 0
        if self._sound or before < _QUIET:
            return []
        return [
            event(
                snapshot,
                EventKind.NONFINITE,
                Severity.WARNING,
                _MADE,
                layers=(),
                value=0,
                limit=0,
                message=f"the loss is {number(snapshot.loss)}, all gradients are finite",
                cause="a term of the loss without a gradient, such as the mean of an empty selection",
            )
        ]

    def _scaled(self, snapshot: GradientSnapshot, scale: float, *, overflow: bool) -> list[GradientEvent]:
        self.overflows += overflow
        self._in_a_row = self._in_a_row + 1 if overflow else 0
        before, self._stuck = self._stuck, self._in_a_row > _MOST_OVERFLOWS or not scale >= 1
        if before or not self._stuck:
            return []
        low = not scale >= 1
        skipped = f"the GradScaler skipped {self._in_a_row} steps in a row, its scale is {number(scale)}"
        return [
            event(
                snapshot,
                EventKind.SCALER_STUCK,
                Severity.ALARM,
                13,
                layers=_kinds_of_layers(snapshot)[0],
                value=scale if low else self._in_a_row,
                limit=1 if low else _MOST_OVERFLOWS,
                message=f"the GradScaler's scale fell to {number(scale)}" if low else skipped,
            )
        ]


def _found(snapshot: GradientSnapshot) -> GradientEvent:
    layers, nan, inf = _kinds_of_layers(snapshot)
    present = [snapshot.layout.layers[i] for i in np.unique(snapshot.layout.layer_of[snapshot.present])]
    everywhere = layers == present
    lines = [_finding(nan, inf, len(present))]
    if snapshot.loss is not None:
        lines.append(f"loss: {number(snapshot.loss, 4)}")
    return event(
        snapshot,
        EventKind.NONFINITE,
        Severity.ALARM,
        11 if everywhere and snapshot.step >= _FIRST_STEPS else 10,
        layers=layers,
        value=len(layers),
        limit=0,
        message="\n".join(lines),
        cause=_origin(snapshot.loss, layers, present),
    )


def _kinds_of_layers(snapshot: GradientSnapshot) -> tuple[list[str], list[str], list[str]]:
    """Layers that are not finite, those of them with a NaN, and those with inf only."""
    norms = by_layer(snapshot.layout, snapshot.norms)
    nan = [name for name, norm in zip(snapshot.layout.layers, norms, strict=True) if norm != norm]
    inf = [name for name, norm in zip(snapshot.layout.layers, norms, strict=True) if np.isinf(norm)]
    return [name for name in snapshot.layout.layers if name in {*nan, *inf}], nan, inf


def _finding(nan: list[str], inf: list[str], present: int) -> str:
    if len(nan) + len(inf) == present and not (nan and inf):
        return f"{'NaN' if nan else 'inf'} in all {present} layers"
    parts = [f"{what} in {listed(names)}" for what, names in (("NaN", nan), ("inf", inf)) if names]
    return f"{', '.join(parts)} ({len(nan) + len(inf)} of {present} layers)"


def _origin(loss: float | None, layers: list[str], present: list[str]) -> str:
    """Gradients run from the output to the input, so the last layer that is hit is the first that was."""
    if layers == present:
        known = loss is not None and not isfinite(loss)
        return "the forward pass or the loss" + (": the loss was not finite before the backward pass" if known else "")
    if layers == present[: len(layers)]:
        return f"the backward pass at {layers[-1]}: all layers from there to the input are hit, none above"
    return f"an operation inside {listed(layers)}"
