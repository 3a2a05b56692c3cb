# SPDX-License-Identifier: Apache-2.0
"""What a model family declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.zoo.core import Run, Stepper, Task

Side = Literal["tuning", "left out"]
MakeStepper = Callable[[Run], Stepper]


@dataclass(frozen=True)
class Family:
    """A network and its task.

    Attributes:
        name: Unique.
        side: Whether rules may be tuned on it.
        make: Builds the task from the global random state.
        sgd: The rate that suits SGD; None where SGD does not train it.
        adam: The rate that suits Adam.
        stepper: Makes the training step, where it is no single loss.
        skip: Optimizers that do not train it.
    """

    name: str
    side: Side
    make: Callable[[], Task]
    sgd: float | None
    adam: float
    stepper: MakeStepper | None = None
    skip: frozenset[str] = frozenset()


FAMILIES: dict[str, Family] = {}


def family(
    side: Side, *, sgd: float | None, adam: float, skip: tuple[str, ...] = (), stepper: MakeStepper | None = None
) -> Callable[[Callable[[], Task]], Callable[[], Task]]:
    """Declares the decorated function as a family under its own name."""

    def declare(make: Callable[[], Task]) -> Callable[[], Task]:
        FAMILIES[make.__name__] = Family(make.__name__, side, make, sgd, adam, stepper, frozenset(skip))
        return make

    return declare
