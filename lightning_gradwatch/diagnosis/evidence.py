# SPDX-License-Identifier: Apache-2.0
"""What a look has found, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from torch import nn

from lightning_gradwatch.diagnosis.forward import FED, RESIDUAL
from lightning_gradwatch.diagnosis.inputs import Input
from lightning_gradwatch.diagnosis.request import Readings
from lightning_gradwatch.diagnosis.setup import Setup
from lightning_gradwatch.rules.saturated import gains
from lightning_gradwatch.snapshot import GradientSnapshot

DEAD_SHARE, SATURATED_SHARE = 0.95, 0.9
"""Of the units of a layer. From SageMaker, TheDeepChecker and the prototype behind this package's defaults."""


@dataclass(frozen=True, slots=True)
class Activation:
    """The units of one activation function.

    Attributes:
        layer: The layer that feeds them.
        function: ``relu``, ``tanh``, ``sigmoid``, ``softsign``, ``hardtanh`` or ``hardsigmoid``.
        share: Of units that are silent on the whole batch (ReLU), or of outputs where the derivative is below 5 % of
            its maximum (the others); in [0, 1].
    """

    layer: str
    function: str
    share: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Root mean squares of what goes into a layer and comes out of it; not finite where a value is not."""

    layer: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known about one optimizer's layers when a cause is asked for.

    Attributes:
        inputs: The worst of each tensor over the batches looked at.
        activations: In the order of the forward pass, without those of the output.
        scales: Likewise.
        gains: By layer: gain and rms of its matrix, as in `rules.saturated.gains`. What torch draws for a linear layer
            has a gain of 0.58.
        residual: Whether what goes into a layer is added to, or joined with, what comes out of it or of a later one.
        update: Median relative update of the weights, or None if unknown.
        setup: How the model is built and trained.
        first: What the first batch was, as `ProbeReading.first`.
    """

    inputs: Sequence[Input] = ()
    activations: Sequence[Activation] = ()
    scales: Sequence[Scale] = ()
    gains: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    residual: bool = False
    update: float | None = None
    setup: Setup = field(default_factory=Setup)
    first: Mapping[str, float] = field(default_factory=dict)

    @property
    def silent(self) -> list[Activation]:
        """ReLU layers nearly all of whose units are silent, worst first."""
        return _worst([a for a in self.activations if a.function == "relu"], DEAD_SHARE)

    @property
    def saturated(self) -> list[Activation]:
        """Tanh and sigmoid layers with hardly any slope left, worst first."""
        return _worst([a for a in self.activations if a.function != "relu"], SATURATED_SHARE)


def _worst(activations: list[Activation], least: float) -> list[Activation]:
    return sorted((a for a in activations if a.share > least), key=lambda a: -a.share)


def gather(readings: Readings, snapshot: GradientSnapshot, module: nn.Module, setup: Setup) -> Evidence:
    """All that is known of the layers of one optimizer.

    Args:
        readings: Of the batches looked at.
        snapshot: A step of the optimizer.
        module: Whose layers they are.
        setup: How it is built and trained.
    """
    modules = dict(module.named_modules())
    layers = set(snapshot.layout.layers)
    numbers = _merged(readings.numbers)
    ratios = np.zeros(0) if snapshot.update_ratios is None else snapshot.update_ratios
    known = ratios[ratios >= 0]
    return Evidence(
        inputs=_worst_inputs(readings.inputs),
        activations=[
            Activation(name, f, numbers[f"{what} {f} {name}"])
            for what, f, name in hidden(list(numbers))
            if name in layers
        ],
        scales=[
            Scale(name, numbers[f"in {name}"], value)
            for name, value in _of("out", numbers)
            if name in layers and f"in {name}" in numbers  # an embedding is fed with indices
        ],
        gains={name: gain for name, gain in gains(snapshot).items() if isinstance(modules.get(name), FED)},
        residual=RESIDUAL in numbers,
        update=float(np.median(known)) if len(known) else None,
        setup=setup,
    )


def hidden(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """What, function and layer of the activations among the names of what was read of a pass, in its order.

    Not the saturated ones behind the last layer: an output may saturate. It may not be silent.
    """
    outs = [i for i, name in enumerate(names) if name.startswith("out ")]
    inner = names[: outs[-1] if outs else 0]
    units = [
        name.split(" ", 2) for name in names if name.startswith("silent ") or (name in inner and name[:5] == "flat ")
    ]
    return [(what, function, layer) for what, function, layer in units]


def _merged(numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median over the batches, in the order of the last; NaN where any was. Units must be silent in all of them."""
    merged = {}
    for name in numbers[-1] if numbers else ():
        values = [one[name] for one in numbers if name in one]
        merged[name] = min(values) if name.startswith("silent ") else float(np.median(values))
    return merged


def _of(what: str, numbers: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(name[len(what) + 1 :], value) for name, value in numbers.items() if name.startswith(f"{what} ")]


def _worst_inputs(batches: Sequence[Sequence[Input]]) -> list[Input]:
    worst: dict[str, Input] = {}
    for one in (one for batch in batches for one in batch):
        if one.path not in worst or _badness(one) > _badness(worst[one.path]):
            worst[one.path] = one
    return list(worst.values())


def _badness(one: Input) -> tuple[int, float]:
    return one.nan + one.inf, one.rms if isfinite(one.rms) else 0.0
