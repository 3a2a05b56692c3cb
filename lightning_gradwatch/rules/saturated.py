# SPDX-License-Identifier: Apache-2.0
"""Layers of tanh or sigmoid units with hardly any slope left."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.probe_reading import ProbeReading, ProbeRule
from lightning_gradwatch.rules.rule import event
from lightning_gradwatch.rules.text import listed
from lightning_gradwatch.snapshot import GradientSnapshot

LARGE_GAIN = 4.0
"""rms of a matrix times the square root of its inputs: three times what He's initialisation has, the largest in use."""

_SHARE = 0.9
_SHARE_IF_LARGE = (
    0.7  # where the weights are too large: N(0, 1) weights of 64 inputs leave 21 % of tanh units their slope
)
_CLEAR = 0.2  # below the share
_EVERY = 5  # steps between two looks while a verdict builds up
_LOOKS = 6  # in a row
_MOST = 0.5  # of the matrices
_LARGE = 17  # row of the remedy table
_PLAIN = ("steps", "last", "pointless", "since", "in_a_row", "share", "fresh")


class Saturated(ProbeRule):
    """Finds layers nearly all of whose outputs sit where the activation function is flat, look after look.

    It has to ask for looks, which cost something, and does so only with a reason, once per window: the training makes
    no progress, or the weights are far larger than any initialisation in use. A model without tanh and sigmoid is
    looked at once at most.

    Args:
        losses: Asked once per window, and while layers are saturated: an alarm without progress, else a warning.
        window: Optimizer steps between two looks; while a verdict builds up, looks are five steps apart.

    Attributes:
        wants_look: Whether the next batch is to be looked at.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50) -> None:
        self.window = window
        self.wants_look = False
        self._losses = losses
        self._latch = Hysteresis()
        self._steps = 0
        self._last = -1
        self._pointless = False
        self._since = 0
        self._in_a_row = 0
        self._share = _SHARE
        self._fresh = False  # whether a look has come that is not judged
        self._layers: dict[str, float] = {}  # worst first

    def learn(self, look: ProbeReading) -> None:
        """Takes the shares of one batch."""
        if look.at == self._last or look.saturated is None:
            return
        self._last, self._fresh = look.at, True
        self._pointless = not look.saturated
        high = {layer: share for layer, share in look.saturated.items() if share > self._share}
        lasting = {layer: share for layer, share in high.items() if not self._layers or layer in self._layers}
        self._layers = dict(sorted(lasting.items(), key=lambda item: -item[1]))
        if not lasting:
            self._in_a_row = 0
        elif not self._in_a_row:
            self._since = self._steps + 1
        self._in_a_row += bool(lasting)
        if all(share < self._share - _CLEAR for share in look.saturated.values()):
            self._latch.clear()

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Decides whether to look, and judges the looks so far."""
        self._steps += 1
        self.wants_look = not self._pointless and self._reason_to_look(snapshot)
        news, self._fresh = self._fresh or self._steps % self.window == 0, False
        if self._in_a_row < _LOOKS or self._latch.worst or not news:
            return []
        severity = Severity.ALARM if self._losses.stuck() else Severity.WARNING
        return [self._found(snapshot, severity)] if self._latch.passes(self._steps, severity) else []

    def state_dict(self) -> dict[str, Any]:
        """Counts, the layers under suspicion, and what was reported."""
        state = {name: getattr(self, f"_{name}") for name in _PLAIN}
        return {**state, "layers": dict(self._layers), "wants_look": self.wants_look, "latch": self._latch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        for name in _PLAIN:
            setattr(self, f"_{name}", state[name])
        self._layers, self.wants_look = dict(state["layers"]), state["wants_look"]
        self._latch.load_state_dict(state["latch"])

    def _reason_to_look(self, snapshot: GradientSnapshot) -> bool:
        if self._in_a_row:
            return self._steps % (_EVERY if self._latch.open else self.window) == 0
        if self._steps % self.window:
            return False
        large = _large(snapshot)
        self._share = _SHARE_IF_LARGE if large else _SHARE
        return large or self._losses.stuck() is True

    def _found(self, snapshot: GradientSnapshot, severity: Severity) -> GradientEvent:
        layers = list(self._layers)
        share = self._layers[layers[0]]
        least = min(self._layers.values())
        return event(
            snapshot,
            EventKind.SATURATED,
            severity,
            _LARGE,
            layers=layers,
            value=share,
            limit=self._share,
            message=(
                f"{_percent(least, share)} of the outputs saturated for {self._steps - self._since} steps"
                f" after {listed(layers)}\n{self._losses.line()}"
            ),
        )


def gains(snapshot: GradientSnapshot) -> dict[str, tuple[float, float]]:
    """By layer: gain and rms of its matrix, of the one with the largest gain: rms times the square root of the inputs.

    A gain of 1 preserves the variance of what passes, 1.41 does so through ReLU (Glorot 2010, He 2015), N(0, 1) weights
    of a layer with 64 inputs have 8. Rows of an embedding are not inputs; who calls must leave those out.
    """
    found: dict[str, tuple[float, float]] = {}
    if snapshot.weight_norms is None:
        return found
    for i in np.flatnonzero(snapshot.layout.matrix & np.isfinite(snapshot.weight_norms)):
        layer, norm = snapshot.layout.layer(int(i)), float(snapshot.weight_norms[i])
        gain = norm / sqrt(snapshot.layout.shapes[i][0])
        found[layer] = max((gain, norm / sqrt(snapshot.layout.numel[i])), found.get(layer, (0.0, 0.0)))
    return found


def _large(snapshot: GradientSnapshot) -> bool:
    """Whether most matrices are: an embedding or two are so by nature."""
    values = [gain for gain, _ in gains(snapshot).values()]
    return sum(gain > LARGE_GAIN for gain in values) > _MOST * len(values)


def _percent(least: float, most: float) -> str:
    low, high = f"{least:.0%}"[:-1], f"{most:.0%}"[:-1]
    return f"{high} %" if low == high else f"{low} to {high} %"
