# SPDX-License-Identifier: Apache-2.0
"""Checks of constructor arguments: each returns the value in its proper type, or says in one line what to give instead.

All raise TypeError for a value of the wrong type, and ValueError for one that is out of range (NaN always is).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import TypeVar

S = TypeVar("S", bound=str)
T = TypeVar("T")


def positive(name: str, value: object) -> float:
    """A finite number above 0."""
    return _number(name, value, "a finite number above 0", lambda x: 0 < x < math.inf)


def above_one(name: str, value: object) -> float:
    """A finite number above 1."""
    return _number(name, value, "a finite number above 1", lambda x: 1 < x < math.inf)


def fraction(name: str, value: object) -> float:
    """A number in (0, 1), both ends excluded."""
    return _number(name, value, "a number above 0 and below 1", lambda x: 0 < x < 1)


def up_to_one(name: str, value: object) -> float:
    """A number in (0, 1], 0 excluded."""
    return _number(name, value, "a number above 0 and at most 1", lambda x: 0 < x <= 1)


def between(name: str, value: object, low: float, high: float) -> float:
    """A number in [low, high], both ends included."""
    return _number(name, value, f"a number from {low:g} to {high:g}", lambda x: low <= x <= high)


def whole_number(name: str, value: object, least: int = 1) -> int:
    """A whole number of at least `least`."""
    allowed = f"a whole number of at least {least}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(_wrong(name, value, allowed))
    if value < least:
        raise ValueError(_wrong(name, value, allowed))
    return int(value)


def one_of(name: str, value: object, allowed: Sequence[S]) -> S:
    """One of the strings `allowed`."""
    choices = "one of " + ", ".join(f'"{choice}"' for choice in allowed)
    if not isinstance(value, str):
        raise TypeError(_wrong(name, value, choices))
    for choice in allowed:
        if choice == value:
            return choice
    raise ValueError(_wrong(name, value, choices))


def some_of(name: str, values: object, allowed: Sequence[S]) -> tuple[S, ...]:
    """Any of the strings `allowed`, from a list."""
    if isinstance(values, str):
        raise TypeError(f"`{name}` must be a list of event kinds, got {values!r}. Write [{values!r}].")
    if not isinstance(values, Iterable):
        raise TypeError(f"`{name}` must be a list of event kinds, got {values!r}. Write [] for none.")
    return tuple(one_of(name, value, allowed) for value in values)


def patterns(name: str, value: object) -> tuple[str, ...]:
    """Name patterns (fnmatch): None for no pattern, one string, or a list of strings."""
    allowed = 'a name pattern such as "head.*", or a list of them'
    given = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(pattern, str) for pattern in given):
        raise TypeError(_wrong(name, value, allowed))
    if "" in given:
        raise ValueError(_wrong(name, value, allowed))
    return tuple(given)


def flag(name: str, value: object) -> bool:
    """True or False; what merely counts as true, such as "no", is not taken."""
    if not isinstance(value, bool):
        raise TypeError(_wrong(name, value, "True or False"))
    return value


def optional(check: Callable[[str, object], T], name: str, value: object) -> T | None:
    """None, or what `check` makes of the value."""
    return None if value is None else check(name, value)


def _number(name: str, value: object, allowed: str, holds: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(_wrong(name, value, allowed))
    if not holds(float(value)):  # this way round, so that NaN fails
        raise ValueError(_wrong(name, value, allowed))
    return float(value)


def _wrong(name: str, value: object, allowed: str) -> str:
    return f"`{name}` must be {allowed}, got {value!r}. Give such a value, or leave `{name}` out for its default."
