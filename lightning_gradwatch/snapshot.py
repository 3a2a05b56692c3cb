# SPDX-License-Identifier: Apache-2.0
"""One optimizer step's gradients as numbers.

P = parameters of the optimizer, in registration order. L = layers, that is modules that own parameters, in the same
order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ParameterInfo:
    """What does not change from step to step: names and shapes. Compared by identity.

    Attributes:
        names: [P] as the user's module names them.
        shapes: [P] whole shapes, also where a strategy shards.
        layers: [L] owners of the parameters.
        layer_of: [P] index into `layers`.
        matrix: [P] True where a parameter has two or more dimensions, of which the depth rules speak.
        numel: [P] number of entries.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    layers: tuple[str, ...] = field(init=False)
    layer_of: NDArray[np.intp] = field(init=False)
    matrix: Bools = field(init=False)
    numel: Floats = field(init=False)

    def __post_init__(self) -> None:
        owners = [name.rpartition(".")[0] or name for name in self.names]
        layers = tuple(dict.fromkeys(owners))
        index = {layer: i for i, layer in enumerate(layers)}
        set_ = object.__setattr__  # frozen: derived once, here
        set_(self, "layers", layers)
        set_(self, "layer_of", np.array([index[owner] for owner in owners], dtype=np.intp))
        set_(self, "matrix", np.array([len(shape) >= 2 for shape in self.shapes], dtype=bool))
        set_(self, "numel", np.array([prod(shape) for shape in self.shapes], dtype=np.float64))

    def layer(self, parameter: int) -> str:
        """The layer that owns parameter number `parameter`."""
        return self.layers[int(self.layer_of[parameter])]

    def select(self, keep: NDArray[np.intp]) -> ParameterInfo:
        """The layout of a part of the parameters."""
        return ParameterInfo(tuple(self.names[i] for i in keep), tuple(self.shapes[i] for i in keep))


@dataclass(frozen=True, slots=True, eq=False)
class GradientSnapshot:
    """Gradients of one optimizer at one step: accumulated, unscaled, before any clipping, whole across ranks.

    Attributes:
        layout: Names and shapes.
        norms: [P] L2 norm; 0 where there is no gradient; NaN or inf where an entry is.
        present: [P] True where there is a gradient at all (``p.grad is not None`` on some rank).
        max_abs: Largest absolute entry, or None if it was not asked for.
        weight_norms: [P] L2 norm of the weights at a recent step, or None if never asked for.
        update_ratios: [P] norm of the weight change over norm of the weight, of the step before; NaN where not
            measured.
        lr: Learning rate in force, the largest of the parameter groups; None if unknown.
        loss: Mean loss of this step's backward calls on this rank; None if unknown.
        loss_scale: The GradScaler's scale, or None without one. With one, it skips non-finite steps itself.
        step: ``trainer.global_step``: optimizer steps done before this one.
        log_step: The step axis of the loggers.
        epoch: Counted from 0.
        batch_idx: Index of the batch within its epoch.
        optimizer: Index of the optimizer.
        total: L2 norm over all parameters; non-finite if any gradient is.
        least: The smallest of the norms, if `total` is finite; inf without parameters.
    """

    layout: ParameterInfo
    norms: Floats
    present: Bools
    max_abs: float | None = None
    weight_norms: Floats | None = None
    update_ratios: Floats | None = None
    lr: float | None = None
    loss: float | None = None
    loss_scale: float | None = None
    step: int = 0
    log_step: int = 0
    epoch: int = 0
    batch_idx: int = 0
    optimizer: int = 0
    total: float = field(init=False)
    least: float = field(init=False)

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # frozen: derived once, read by every rule
        set_(self, "total", joint(self.norms))
        set_(self, "least", min(self.norms.tolist(), default=math.inf))

    @property
    def layer_norms(self) -> Floats:
        """[L] L2 norm of each layer's gradient."""
        return by_layer(self.layout, self.norms)

    def select(self, keep: NDArray[np.intp], layout: ParameterInfo) -> GradientSnapshot:
        """The snapshot of a part of the parameters; `layout` is ``self.layout.select(keep)``, kept by the caller."""
        return replace(
            self,
            layout=layout,
            norms=self.norms[keep],
            present=self.present[keep],
            weight_norms=None if self.weight_norms is None else self.weight_norms[keep],
            update_ratios=None if self.update_ratios is None else self.update_ratios[keep],
        )


def joint(norms: Floats) -> float:
    """The norm of what has these norms [any]; NaN if one is, else inf if one is."""
    total = math.hypot(*norms.tolist())  # of some hundred numbers as fast as numpy, and never an overflow on the way
    return total if total < math.inf else float(norms.sum())


def by_layer(layout: ParameterInfo, norms: Floats) -> Floats:
    """Norms of parameters [P] joined to norms of layers [L]; a NaN or inf stays where it is."""
    return np.sqrt(np.bincount(layout.layer_of, weights=norms * norms, minlength=len(layout.layers)))


def shares(layout: ParameterInfo, norms: Floats, most: int = 3) -> list[tuple[str, float]]:
    """The layers that make the norm: at most `most` of them, with their share of the squared total in [0, 1]."""
    squares = by_layer(layout, norms) ** 2
    total = squares.sum()
    order: Sequence[int] = np.argsort(-squares, kind="stable")[:most].tolist()
    return [(layout.layers[i], float(squares[i] / total)) for i in order if squares[i] > 0]
