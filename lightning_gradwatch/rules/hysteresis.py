# SPDX-License-Identifier: Apache-2.0
"""Hysteresis: a condition that lasts is one finding."""

from __future__ import annotations

from typing import Any

from lightning_gradwatch.events import Severity

_RANK = {None: 0, Severity.INFO: 1, Severity.WARNING: 2, Severity.ALARM: 3}


class Hysteresis:
    """Lets a verdict through at its onset, once more if it gets worse, and again only after it has cleared.

    Args:
        patience: Consecutive steps that a verdict must hold before it passes; 1 lets it pass at once.
    """

    def __init__(self, patience: int = 1) -> None:
        self.patience = patience
        self._since: int | None = None
        self._reported: Severity | None = None

    @property
    def worst(self) -> bool:
        """Whether an alarm is on, so that nothing more can come of it."""
        return self._reported is Severity.ALARM

    @property
    def open(self) -> bool:
        """Whether nothing is on."""
        return self._since is None

    def passes(self, step: int, severity: Severity | None) -> bool:
        """Whether the verdict at this step, None for no verdict, is to be reported.

        Args:
            step: The rule's own count of steps.
            severity: How bad it is now.
        """
        if severity is None:
            self._since = self._since if self._reported else None
            return False
        self._since = step if self._since is None else self._since
        if step - self._since + 1 < self.patience or _RANK[severity] <= _RANK[self._reported]:
            return False
        self._reported = severity
        return True

    def clear(self) -> None:
        """The condition is over."""
        self._since = self._reported = None

    def state_dict(self) -> dict[str, Any]:
        """Since when, and what was reported."""
        return {"since": self._since, "reported": None if self._reported is None else self._reported.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._since = state["since"]
        self._reported = None if state["reported"] is None else Severity(state["reported"])
