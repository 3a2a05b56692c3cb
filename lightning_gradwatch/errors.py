# SPDX-License-Identifier: Apache-2.0
"""The errors that this package raises on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_gradwatch.events import GradientEvent


class GradwatchError(Exception):
    """Base of all; raised itself for a combination that cannot work, at ``setup`` or ``on_fit_start``."""


class _EventError(GradwatchError):
    """A run that was ended on purpose.

    Attributes:
        event: What tripped, with evidence, cause and remedies.
    """

    def __init__(self, event: GradientEvent) -> None:
        super().__init__(str(event))
        self.event = event

    def __reduce__(self) -> tuple[type[_EventError], tuple[GradientEvent]]:
        # The default would pickle the text in place of the event, and break errors that cross processes.
        return type(self), (self.event,)


class GradientExplosionError(_EventError):
    """`ExplosionDetector` or `AdaptiveClipper` aborted the run."""


class VanishingGradientError(_EventError):
    """`VanishingDetector` aborted the run."""
