# SPDX-License-Identifier: Apache-2.0
"""What one run is made of; the same seed always draws the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, Literal

from lightning_gradwatch.laws import LawName

STEPS, EPOCH = 24, 10
GRADIENTS = ("nan", "inf", "huge", "tiny", "zero", "missing", "dtype", "spike")
RAISERS = (
    "module.training_step",
    "module.on_gradient_event",
    "callback.on_gradient_event",
    "callback.on_train_batch_end",
    "module.on_before_optimizer_step",
)
LOGGERS = ("none", "memory", "tensorboard", "csv", "raises", "file in the way", "disk full")
DEATHS = ("SIGKILL", "SIGTERM", "SIGKILL at a time", "exception")
POINTS = ("batch start", "training step", "after backward", "before the step", "batch end", "saving")
Law = LawName | Literal["none"]
LAWS: tuple[Law, ...] = ("none", "norm", "value", "percentile", "zscore", "unitwise")


@dataclass(frozen=True)
class GradientFault:
    """One gradient that goes wrong: at this micro-batch, of this parameter, on this rank."""

    kind: str
    batch: int
    parameter: int
    rank: int


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        seed: What it was drawn from.
        ranks: Processes.
        optimizer: ``"sgd"``, ``"adamw"``, ``"fused"``, ``"lbfgs"``, ``"sparse"``, ``"manual"`` (two of them).
        precision: ``"32"``, ``"bf16"`` or ``"16"`` (a GradScaler).
        accumulate: Micro-batches to a step.
        law: Of the `AdaptiveClipper`; ``"none"`` leaves it out.
        action: Of the `ExplosionDetector`.
        nonfinite: Of the same.
        max_norm: Of the same.
        order: How the callbacks stand in the list.
        logger: Where the numbers go.
        gradients: What goes wrong in the gradients.
        raises: Who raises, and at which batch; None for nobody.
        death: How the process dies, and where; None for not at all. What is left of it is resumed.
    """

    seed: int
    ranks: int
    optimizer: str
    precision: str
    accumulate: int
    law: Law
    action: str
    nonfinite: str
    max_norm: float | None
    order: tuple[int, ...]
    logger: str
    gradients: tuple[GradientFault, ...]
    raises: tuple[str, int] | None = None
    death: tuple[str, str, int] | None = None
    late: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = {k: v for k, v in asdict(self).items() if v not in (None, (), {})}
        return ", ".join(f"{k}={v}" for k, v in values.items())


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    dice = Random(seed)
    ranks = 2 if dice.random() < 0.05 else 1
    optimizer = dice.choice(("sgd", "sgd", "adamw", "fused", "lbfgs", "sparse", "manual"))
    plain = optimizer in ("sgd", "adamw", "fused")
    precision = dice.choice(("32", "32", "bf16", "16")) if plain and ranks == 1 else "32"
    fate = dice.random()
    return Plan(
        seed=seed,
        ranks=ranks,
        optimizer="sgd" if ranks > 1 else optimizer,
        precision=precision,
        accumulate=dice.choice((1, 1, 2, 3)) if plain and ranks == 1 else 1,
        law=dice.choice(LAWS),
        action=dice.choice(("warn", "warn", "clip", "skip", "stop", "abort")),
        nonfinite=dice.choice(("skip", "skip", "skip", "stop", "abort")),
        max_norm=dice.choice((None, 3.0, 30.0)),
        order=tuple(dice.sample(range(5), 5)),
        logger=dice.choice(LOGGERS) if ranks == 1 else dice.choice(("none", "memory", "raises")),
        gradients=tuple(_gradient(dice, optimizer, precision, ranks) for _ in range(dice.choice((0, 1, 2, 3, 6)))),
        raises=(dice.choice(RAISERS), dice.randrange(STEPS)) if fate < 0.25 and ranks == 1 else None,
        death=(dice.choice(DEATHS), dice.choice(POINTS), dice.randrange(1, STEPS)) if fate > 0.6 else None,
    )


def _gradient(dice: Random, optimizer: str, precision: str, ranks: int) -> GradientFault:
    kinds = [kind for kind in GRADIENTS if _possible(kind, optimizer, precision, ranks)]
    return GradientFault(dice.choice(kinds), dice.randrange(STEPS), dice.randrange(7), dice.randrange(ranks))


def _possible(kind: str, optimizer: str, precision: str, ranks: int) -> bool:
    """Whether torch itself can bear it: Adam wants gradients of the weights' type, a reducer wants all of them."""
    if kind == "dtype":
        return optimizer == "sgd" and precision == "32" and ranks == 1
    return kind != "missing" or (ranks == 1 and precision != "16")
