# SPDX-License-Identifier: Apache-2.0
"""What a healthy variation declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.zoo.core import Run
from benchmarks.zoo.family import Side


@dataclass(frozen=True)
class Variation:
    """A change that leaves a run healthy, and why a detector could be deceived (`reason`)."""

    name: str
    side: Side
    patch: Callable[[Run], None]
    reason: str
    needs: frozenset[str] = frozenset()
    unless: frozenset[str] = frozenset()

    def fits(self, tags: frozenset[str]) -> bool:
        """Whether a run with these tags can be varied like that."""
        return self.needs <= tags and not self.unless & tags


VARIATIONS: dict[str, Variation] = {}


def variation(
    side: Side, *, needs: Iterable[str] = (), unless: Iterable[str] = ()
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Declares the decorated patch as a variation under its own name; its docstring is the reason."""

    def declare(patch: Callable[[Run], None]) -> Callable[[Run], None]:
        name, reason = patch.__name__, (patch.__doc__ or "").splitlines()[0]
        VARIATIONS[name] = Variation(name, side, patch, reason, frozenset(needs), frozenset(unless))
        return patch

    return declare


@variation("tuning")
def sound(run: Run) -> None:
    """Nothing is changed."""
