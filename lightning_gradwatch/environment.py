# SPDX-License-Identifier: Apache-2.0
"""``GRADWATCH`` in the environment. Imports next to nothing: every Trainer of an environment asks."""

import os

_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def switch() -> bool | None:
    """True to watch without code, False to switch the whole package off, None where nothing is asked for.

    Raises:
        ValueError: ``GRADWATCH`` holds neither.
    """
    given = os.environ.get("GRADWATCH", "").strip().lower()
    if given in _ON + _OFF:
        return given in _ON
    if given:
        raise ValueError(
            f"GRADWATCH must be 1, which watches every Trainer without code, or 0, which switches lightning_gradwatch"
            f" off, got {given!r}. It is ignored: give one of them, or unset it."
        )
    return None


def switched_off() -> bool:
    """Whether the package is to do nothing. Half a word in the environment is no reason for that."""
    try:
        return switch() is False
    except ValueError:
        return False
