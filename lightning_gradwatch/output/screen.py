# SPDX-License-Identifier: Apache-2.0
"""The handler that shows our messages where the user has none: beside a progress bar, not under it."""

from __future__ import annotations

import logging
import sys

from typing_extensions import override


class ScreenHandler(logging.StreamHandler):  # type: ignore[type-arg]  # its type has no argument at run time
    """Writes to whatever ``sys.stderr`` is at that moment, and lifts tqdm's bars out of the way.

    Rich puts a file of its own in the place of ``sys.stderr`` while a bar lives, and prints what it gets above the bar;
    a handler that kept the first one would write into the bar, and be erased. tqdm does not, so its bars are cleared.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> object:  # as logging's own handler of last resort has it
        """Where it writes now."""
        return sys.stderr

    @override
    def emit(self, record: logging.LogRecord) -> None:
        bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
        if bars is None or not getattr(bars, "_instances", None):
            super().emit(record)
            return
        try:
            bars.write(self.format(record), file=sys.stderr)
        except Exception:  # as logging does: never an error of the caller
            self.handleError(record)
