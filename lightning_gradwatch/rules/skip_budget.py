# SPDX-License-Identifier: Apache-2.0
"""How many steps may be skipped before something else has to happen."""

from __future__ import annotations

from typing import Any

from lightning_gradwatch.events import Action

MOST_FINITE = 5
"""Finite gradients skipped in a row; the next one is let through, clipped, so that a new level cannot lock a run in."""

MOST_RECENT, RECENT = 50, 1000
"""Non-finite gradients skipped within the last steps; more is a run that is broken, even if it recovers in between."""


class SkipBudget:
    """Counts the skips of one optimizer.

    Args:
        max_skips: Non-finite gradients skipped in a row before the run is aborted.
    """

    def __init__(self, max_skips: int) -> None:
        self._max_skips = max_skips
        self._step = 0
        self._recent: list[int] = []
        self._nonfinite_in_a_row = 0
        self._finite_in_a_row = 0
        self._verdict: tuple[Action, str] | None = None

    def next_step(self) -> None:
        """A step begins."""
        self._step += 1
        self._verdict = None
        if self._recent and self._recent[0] <= self._step - RECENT:
            del self._recent[0]

    def nonfinite(self) -> tuple[Action, str]:
        """What to do about a non-finite gradient, and the count for the message."""
        self._finite_in_a_row = 0
        self._nonfinite_in_a_row += 1
        if self._nonfinite_in_a_row > self._max_skips:
            return "abort", f"{self._max_skips} steps in a row were skipped already, max_skips={self._max_skips}"
        self._recent.append(self._step)
        if len(self._recent) > MOST_RECENT:
            return "abort", f"{MOST_RECENT} of the last {RECENT} steps were skipped already"
        return "skip", f"{self._nonfinite_in_a_row} of at most {self._max_skips} in a row"

    def finite(self) -> tuple[Action, str]:
        """What to do about a finite gradient that somebody wants skipped; the same for all findings of one step."""
        if self._verdict is None:
            self._verdict = self._finite()
        return self._verdict

    def sound(self) -> None:
        """Nothing was wrong with this step's gradient."""
        self._nonfinite_in_a_row = self._finite_in_a_row = 0

    def _finite(self) -> tuple[Action, str]:
        self._nonfinite_in_a_row = 0
        if self._finite_in_a_row >= MOST_FINITE:
            return "clip", f"{MOST_FINITE} steps in a row were skipped already"
        self._finite_in_a_row += 1
        return "skip", f"{self._finite_in_a_row} of at most {MOST_FINITE} in a row"

    def state_dict(self) -> dict[str, Any]:
        """All counts."""
        return {
            "step": self._step,
            "recent": list(self._recent),
            "nonfinite": self._nonfinite_in_a_row,
            "finite": self._finite_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self._step, self._recent = state["step"], list(state["recent"])
        self._nonfinite_in_a_row, self._finite_in_a_row = state["nonfinite"], state["finite"]
