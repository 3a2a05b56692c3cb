# SPDX-License-Identifier: Apache-2.0
"""What the weights can bear: a bound on the relative update of each layer, known before the step is taken.

P = parameters, L = layers, K = most parameters of one layer. Shapes in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_gradwatch.laws.layer_lr import LayerLRReduction
from lightning_gradwatch.snapshot import Floats, ParameterInfo

USUAL_LIMIT = 0.3
"""Largest relative update that passes untouched where nobody gives another; few healthy steps are beyond it."""

LEAST_RMS = 0.5
"""Of 1 / sqrt(columns), the usual size of an entry of a matrix, or of 1 for what is none: smaller weights, such as
those that start at zero, are taken to be this large, or they could not leave it."""


class TrustRatioClip:
    """Bounds how far a step of SGD moves each layer, relative to its weights.

    The ratio is ``lr (1 - dampening) |g| / ((1 - momentum) |w|)``: the whole way that this step's gradient will move
    the weights, momentum included. No norms of earlier steps are needed, so it holds from the first one. Up to `limit`
    nothing is touched. Beyond it ``limit**2 / ratio`` is left: the further off, the less, as in ZClip's reciprocal
    clipping.

    A ratio of 1 or more, a step as long as the weights themselves, and as those of He's initialisation (the root of
    twice the number of rows), tells that the rate is far too high for the layer, and that clipping single steps will
    not do: what is left of each still is as large as the limit, so the weights are thrown about, and units die. From
    then on the layer trains at a reduced rate, tuned automatically (`LayerLRReduction` has the formula), until the
    user's is safe; at most a third of the limit is left.

    Not bounded are optimizers that divide by the size of the gradients, such as Adam: to them a smaller gradient is all
    the same. `LRDecay` lowers their rate instead.

    Source: ours. The ratio is that of LARS (You et al. 2017, arXiv 1708.03888), which sets it at every step where this
    only bounds it; the floor for weights near zero is AGC's (Brock et al. 2021, arXiv 2102.06171, eq. 3).

    Args:
        limit: Largest relative update that passes untouched, above 0.

    Attributes:
        hot: Whether a layer is in trouble, as far as the host knows; then each step its weights are worth a look.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.hot = False
        self._layout: ParameterInfo | None = None
        self._saved: dict[str, list[float]] = {}

    def meet(self, layout: ParameterInfo, groups: Sequence[NDArray[np.intp]], members: NDArray[np.intp] | None) -> None:
        """Tells which parameters there are; what is remembered of a layer stays.

        Args:
            layout: Names and shapes.
            groups: The parameters of each group, as indices.
            members: The parameters to bound; None for all.
        """
        if layout is self._layout:
            return
        self._saved = self.state_dict()
        self._layout, self.hot = layout, bool(self._saved)
        self._weights: Floats | Tensor | None = None
        self._inverse: Tensor | None = None
        chosen = torch.zeros(len(layout.names), dtype=torch.float64)
        chosen[slice(None) if members is None else torch.from_numpy(members)] = 1.0
        group_of = torch.zeros(len(layout.names), dtype=torch.int64)
        for i, group in enumerate(groups):
            group_of[torch.from_numpy(group)] = i
        self._chosen, self._group_of = chosen, group_of
        self._layer_of, self._inside = torch.from_numpy(layout.layer_of), _inside(layout)
        self._screen = self._limit / max(self._inside.shape[1], 1) ** 0.5  # if all are below, every layer is
        self._trouble = LayerLRReduction(
            self._limit, layout.layers, torch.from_numpy(_least_sizes(layout)), self._saved
        )

    def factors(
        self,
        norms: Floats | Tensor,
        weights: Floats | Tensor | None,
        reaches: Sequence[float],
    ) -> Floats | Tensor | None:
        """[P] multipliers in (0, 1] for this step's gradients; None where the host knows that all of them are 1.

        Args:
            norms: [P] of the gradients, after other laws. A tensor is handled on its device, without waiting for it.
            weights: [P] norms of the weights at a recent step; None where they are not known, or as they were.
            reaches: [G] how far each group will move its weights by a gradient of norm 1, momentum included; 0 where
                that is not known.
        """
        rates = list(reaches)
        where = norms.device if isinstance(norms, Tensor) else torch.device("cpu")
        slope = self._slope_of(weights, rates, where) if any(rates) else None
        if slope is None:
            return None
        if isinstance(norms, Tensor):
            return self._bound(norms * slope)
        ratios: Floats = norms * slope.numpy()
        largest = ratios.max(initial=0.0)
        if not largest < np.inf or (largest <= self._screen and not self.hot):
            return None
        factors = self._bound(torch.from_numpy(ratios)).numpy()
        self.hot = self._trouble.hot
        return factors if factors.min() < 1.0 else None

    def state_dict(self) -> dict[str, list[float]]:
        """What is remembered of the layers in trouble."""
        return dict(self._saved) if self._layout is None else self._trouble.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken; the first development versions kept one number of each layer."""
        self._saved = {layer: list(row) for layer, row in state.items() if not isinstance(row, float)}
        self._layout = None

    def _slope_of(self, weights: Floats | Tensor | None, rates: list[float], device: torch.device) -> Tensor | None:
        """[P] what makes a relative update of a gradient's norm; None while the weights are unknown."""
        if weights is not None and weights is not self._weights:
            self._weights, self._rates = weights, [0.0]
            for name in ("_chosen", "_group_of", "_layer_of", "_inside"):
                setattr(self, name, getattr(self, name).to(device, non_blocking=True))
            known = torch.as_tensor(weights).to(device, torch.float64)
            self._inverse = self._chosen * self._trouble.weigh(self._joint(known))[self._layer_of]
        if self._inverse is not None and rates != self._rates:
            self._rates = rates
            of_group = torch.tensor(rates, dtype=torch.float64).to(device, non_blocking=True)
            self._slope = self._inverse * of_group[self._group_of]
        return None if self._inverse is None else self._slope

    def _joint(self, values: Tensor) -> Tensor:
        """[L] norms of layers of those of parameters [P]."""
        return torch.cat([values, values.new_zeros(1)])[self._inside].square().sum(1).sqrt()

    def _bound(self, ratios: Tensor) -> Tensor:
        """[P] factors for relative updates [P], which are joined to those of layers; learns from them."""
        finite = ratios.isfinite().all()
        by_layer = self._joint(ratios)
        factors = self._trouble.factors(by_layer, (self._limit / by_layer).square(), finite)
        return torch.where(finite & (factors < 1.0), factors, 1.0)[self._layer_of]


def _inside(layout: ParameterInfo) -> Tensor:
    """[L, K] the parameters of each layer, filled up with P."""
    members = [np.flatnonzero(layout.layer_of == i) for i in range(len(layout.layers))]
    table = torch.full((len(members), max(map(len, members), default=0)), len(layout.names))
    for row, indices in zip(table, members, strict=True):
        row[: len(indices)] = torch.from_numpy(indices)
    return table


def _least_sizes(layout: ParameterInfo) -> Floats:
    """[L] what the norm of a layer's weights is taken to be at least."""
    rows = np.zeros(len(layout.layers))
    entries = np.bincount(layout.layer_of, weights=layout.numel, minlength=len(rows))
    for i in np.flatnonzero(layout.matrix):
        rows[layout.layer_of[i]] = max(rows[layout.layer_of[i]], layout.shapes[i][0])
    return LEAST_RMS * np.sqrt(np.where(rows > 0, rows, entries))
