# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a run from its first step on, so that a finding can be explained at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lightning_gradwatch.rules.rule import telling
from lightning_gradwatch.rules.saturated import gains
from lightning_gradwatch.snapshot import GradientSnapshot

_RECENT = 20  # measured steps that are remembered
_NOT_LONG = 20  # steps before a finding in which its cause may lie
_NOT_AT_FIRST = "RAdam"  # whose first steps are those of SGD
_MOST, _MANY = 0.5, 8  # of the matrices, or so many, must have been measured: one suspect says nothing of the others
_FAST = 0.1
"""Relative update per step that no sound training keeps up; 1e-3 is usual."""

_SCALES_ITSELF = ("betas", "alpha", "lr_decay", "beta2_decay")
"""Settings of optimizers that divide by the size of past gradients: Adam and its kin, RMSprop, Adagrad, Adafactor."""


class History:
    """The updates and the initial weights of one optimizer.

    Attributes:
        gains: By layer, as in `rules.saturated.gains`, of the first step.
        first_loss: The loss of the first step; None if unknown.
        response: How far the loss responds to a relative change of all weights, as a share of the loss; about 1 in a
            sound network at its start. None if unknown.
        momentum: The largest of the groups; 0 without.
        outlier: The step of the latest batch far from the first one, and in what; None if none was seen.
        adaptive: Whether the size of a step does not depend on the gradient's, as under Adam.
    """

    def __init__(self) -> None:
        self.gains: dict[str, tuple[float, float]] = {}
        self.adaptive = False
        self.first_loss: float | None = None
        self.response: float | None = None
        self._seen = False
        self.momentum = 0.0
        self.outlier: tuple[int, str] | None = None
        self._moves: deque[tuple[int, float]] = deque(maxlen=_RECENT)  # step, median relative update of matrices
        self._worst: tuple[int, float] | None = None
        self._last: GradientSnapshot | None = None

    def meet(self, optimizer: str, groups: Iterable[Mapping[str, Any]]) -> None:
        """Reads the settings of an optimizer of this type."""
        groups = list(groups)
        scales_itself = any(name in group for group in groups for name in _SCALES_ITSELF)
        self.adaptive = scales_itself and optimizer != _NOT_AT_FIRST
        self.momentum = max((float(group.get("momentum") or 0.0) for group in groups), default=0.0)

    def follow(self, snapshot: GradientSnapshot) -> None:
        """Takes a step in, once; the updates in it are those of the step before."""
        if snapshot is self._last:
            return
        self._last = snapshot
        if not self._seen:
            self._seen, self.first_loss = True, snapshot.loss
        if not self.gains and snapshot.weight_norms is not None:
            self.gains = gains(snapshot)
            weights = float(np.linalg.norm(snapshot.weight_norms))
            self.response = snapshot.total * weights / snapshot.loss if snapshot.loss else None
        if snapshot.update_ratios is None or snapshot.weight_norms is None:
            return
        matrices = telling(snapshot)
        counts = matrices & (snapshot.update_ratios >= 0)
        if np.count_nonzero(counts) >= min(_MANY, _MOST * np.count_nonzero(matrices)):
            middle = float(np.median(snapshot.update_ratios[counts]))
            self._moves.append((snapshot.step - 1, middle))
            if self._worst is None or middle > self._worst[1]:
                self._worst = snapshot.step - 1, middle

    @property
    def fastest(self) -> tuple[int, float] | None:
        """The measured step that moved the median matrix furthest, and by how much of its norm; None before any."""
        return self._worst

    def too_fast(self, step: int) -> tuple[int, float] | None:
        """The step not long before this one that moved half of the matrices furthest, if by more than a tenth."""
        recent = [move for move in self._moves if step - _NOT_LONG <= move[0] <= step and move[1] > _FAST]
        return max(recent, key=lambda move: move[1], default=None)

    def state_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "gains": {layer: list(pair) for layer, pair in self.gains.items()},
            "moves": [list(move) for move in self._moves],
            "momentum": self.momentum,
            "outlier": None if self.outlier is None else list(self.outlier),
            "worst": None if self._worst is None else list(self._worst),
            "adaptive": self.adaptive,
            "first_loss": self.first_loss,
            "response": self.response,
            "seen": self._seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self.gains = {layer: (gain, rms) for layer, (gain, rms) in state["gains"].items()}
        self.response = state["response"]
        self._moves = deque(((int(step), float(middle)) for step, middle in state["moves"]), maxlen=_RECENT)
        worst, outlier = state["worst"], state["outlier"]
        self.momentum = state["momentum"]
        self.outlier = None if outlier is None else (int(outlier[0]), str(outlier[1]))
        self._worst = None if worst is None else (int(worst[0]), float(worst[1]))
        self.adaptive, self.first_loss, self._seen = state["adaptive"], state["first_loss"], state["seen"]
