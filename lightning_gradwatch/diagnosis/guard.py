# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while we look must not end the training that is looked at."""

from __future__ import annotations

from types import TracebackType


class SuppressErrors:
    """A context that swallows exceptions and keeps the first.

    Attributes:
        error: The first exception, or None.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Swallows an `Exception`; a `KeyboardInterrupt` goes on."""
        if isinstance(error, Exception):
            self.error = self.error or error
            return True
        return False
