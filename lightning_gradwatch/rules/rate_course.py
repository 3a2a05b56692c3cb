# SPDX-License-Identifier: Apache-2.0
"""The course of the learning rate, which a schedule in the wrong unit ruins."""

from __future__ import annotations

from typing import Any

from lightning_gradwatch.rules.text import number

_NEARLY_ZERO = 1e-4
"""Of the peak. A schedule spends little of a run below it: the last 0.6 % of a cosine."""

_LONG = 0.2  # of all steps so far


class RateCourse:
    """Follows the learning rate of one optimizer, the largest of its groups.

    Assumes that a schedule which ends at 0 spends less than a fifth of a run there.

    Args:
        window: Optimizer steps that an idle rate must last.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.now: float | None = None
        self.peak = 0.0
        self.steps = 0
        self.rose = 0  # own step at which it last rose
        self.peaked = 0  # own step at which it was first as high as ever
        self._fell: int | None = None  # own step at which it fell to nearly 0
        self._at = 0  # step of the run at which it did

    def take(self, rate: float | None, step: int) -> None:
        """The rate of the coming step, which is number `step` of the run."""
        self.steps += 1
        if rate is None:
            return
        if self.now is not None and rate > self.now:
            self.rose = self.steps
        if rate > self.peak:
            self.peaked = self.steps
        self.now, self.peak = rate, max(self.peak, rate)
        if rate > _NEARLY_ZERO * self.peak:
            self._fell = None
        elif self._fell is None:
            self._fell, self._at = self.steps, step

    @property
    def idle(self) -> int:
        """Steps in a row at which it was nearly 0, if they are a window and a fifth of the run; else 0."""
        if self._fell is None:
            return 0
        steps = self.steps - self._fell + 1
        return steps if steps >= max(self.window, _LONG * self.steps) else 0

    @property
    def rising(self) -> bool:
        """Whether it rose within the window."""
        return self.steps - self.rose < self.window and self.rose > 0

    def line(self) -> str:
        """The course in words; empty while it is nothing to speak of."""
        if self.now is None:
            return ""
        if self._fell is not None and not self.peak:
            return "the learning rate is 0 from the start"
        if self._fell is not None:
            fall = "to 0" if self.now == 0 else f"to {number(self.now / self.peak)} of its peak {number(self.peak)}"
            return f"the learning rate fell {fall} at step {self._at}"
        if self.rising:
            return f"the learning rate is still rising, and {number(self.now)} after {self.steps} steps"
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Counts and rates."""
        return {
            "now": self.now,
            "peak": self.peak,
            "steps": self.steps,
            "rose": self.rose,
            "peaked": self.peaked,
            "fell": self._fell,
            "at": self._at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self.now, self.peak, self.steps = state["now"], state["peak"], state["steps"]
        self.rose, self.peaked = state["rose"], state["peaked"]
        self._fell, self._at = state["fell"], state["at"]
