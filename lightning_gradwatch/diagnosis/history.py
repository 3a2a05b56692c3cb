# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a run from its first step on, so that a finding can be explained at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.rules.saturated import gains
from lightning_gradwatch.snapshot import GradientSnapshot

_TINY = 0.01  # of the norm that usual initialisations give; the relative update of such weights says nothing
_FAST = 0.1
"""Relative update per step that no sound training keeps up; 1e-3 is usual."""


class History:
    """The updates and the initial weights of one optimizer.

    Attributes:
        gains: By layer, as in `rules.saturated.gains`, of the first step.
        first_loss: The loss of the first step; None if unknown.
        response: How far the loss responds to a relative change of all weights, as a share of the loss; about 1 in a
            sound network at its start. None if unknown.
        adaptive: Whether the size of a step does not depend on the gradient's, as under Adam.
    """

    def __init__(self) -> None:
        self.gains: dict[str, tuple[float, float]] = {}
        self.adaptive = False
        self.first_loss: float | None = None
        self.response: float | None = None
        self._seen = False
        self._first_fast: tuple[int, float] | None = None
        self._worst: tuple[int, float] | None = None
        self._last: GradientSnapshot | None = None

    def follow(self, snapshot: GradientSnapshot, *, adaptive: bool) -> None:
        """Takes a step in, once; the updates in it are those of the step before."""
        if snapshot is self._last:
            return
        self._last, self.adaptive = snapshot, adaptive
        if not self._seen:
            self._seen, self.first_loss = True, snapshot.loss
        if not self.gains and snapshot.weight_norms is not None:
            self.gains = gains(snapshot)
            weights = float(np.linalg.norm(snapshot.weight_norms))
            self.response = snapshot.total * weights / snapshot.loss if snapshot.loss else None
        if snapshot.update_ratios is None or snapshot.weight_norms is None:
            return
        usual = np.array([shape[0] if shape else 1 for shape in snapshot.layout.shapes]) ** 0.5
        counts = snapshot.layout.matrix & (snapshot.update_ratios >= 0) & (snapshot.weight_norms > _TINY * usual)
        if counts.any():
            middle = float(np.median(snapshot.update_ratios[counts]))
            if middle > _FAST and self._first_fast is None:
                self._first_fast = snapshot.step - 1, middle
            if self._worst is None or middle > self._worst[1]:
                self._worst = snapshot.step - 1, middle

    @property
    def fastest(self) -> tuple[int, float] | None:
        """The measured step that moved the median matrix furthest, and by how much of its norm; None before any."""
        return self._worst

    @property
    def too_fast(self) -> tuple[int, float] | None:
        """The first step that moved half of the matrices by more than a tenth of their norm, and by how much."""
        return self._first_fast

    def state_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "gains": {layer: list(pair) for layer, pair in self.gains.items()},
            "first_fast": None if self._first_fast is None else list(self._first_fast),
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
        fast, worst = state["first_fast"], state["worst"]
        self._worst = None if worst is None else (int(worst[0]), float(worst[1]))
        self._first_fast = None if fast is None else (int(fast[0]), float(fast[1]))
        self.adaptive, self.first_loss, self._seen = state["adaptive"], state["first_loss"], state["seen"]
