# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while we report is said once and switched off; it never ends a training.

Only what reports may stand behind it: nothing that decides about a gradient, nothing of the user's own, and no
collective, since one rank may fail where the others do not.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

logger = logging.getLogger("lightning_gradwatch")

T = TypeVar("T")

_NONE: frozenset[str] = frozenset()


class FailSafe:
    """Remembers what is broken."""

    def __init__(self) -> None:
        self._broken: set[Hashable] = set()

    def run(self, key: Hashable, failure: str, report: Callable[..., T], *args: Any) -> T | None:
        """The result of ``report(*args)``; None where it fails or has failed before.

        Args:
            key: What is switched off if it fails.
            failure: The sentence that says so, up to the exception: ``"MyLogger failed to write texts"``.
            report: Writes, prints or draws.
            args: What it gets.
        """
        if key not in self._broken:
            try:
                return report(*args)
            except Exception as error:  # a full disk, a lost server, a logger of the user's own, a mistake of ours
                self.give_up(key, failure, error)
        return None

    def give_up(self, key: Hashable, failure: str, error: Exception) -> None:
        """Switches off what has failed just now; for those who catch `error` themselves, arguments as above."""
        self._broken.add(key)
        say(f"[gradwatch] {failure} ({type(error).__name__}: {error}); the training goes on without them.")

    def broken(self, owner: object) -> frozenset[str]:
        """The names of what is switched off under keys ``(owner, name)``."""
        return (
            frozenset(k[1] for k in self._broken if isinstance(k, tuple) and k[0] is owner) if self._broken else _NONE
        )


def say(sentence: str) -> None:
    """Reports the exception at hand on any rank, with its traceback; where logging is what fails, on stderr."""
    try:
        logger.exception("%s", sentence)
    except Exception:  # a handler of the user's may raise anything; stderr is what is left
        with contextlib.suppress(Exception):
            sys.stderr.write(sentence + "\n")
