# SPDX-License-Identifier: Apache-2.0
"""Layers whose learning rate is far too high, and the rate that each has until the user's can be borne.

L = layers. Shapes in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import torch
from torch import Tensor

UNBEARABLE = 1.0
"""A step as long as the weights themselves replaces them: the learning rate is far too high for that layer."""

ORDINARY = 2 * 2**0.5
"""Times the least size: that of He's initialisation. Smaller weights may well be replaced by such of this size, as a
linear model's are."""

FIRST_STEP = 1e-3
"""The first relative update of a layer in trouble: what healthy runs typically have. It is more than what the rounding
of the norms, in single precision, can make `REACH` (4e-4)."""

LONGEST_STEP = 1 / 3
"""Of the limit: no update of a layer in trouble is larger."""

KEEP = 0.998
"""What the memory of a layer in trouble keeps per step; half is forgotten after 350."""

WINSOR = 15.0
"""Times the limit: larger ratios are remembered as this one, or a single one would be remembered for ever."""

FEW, QUIET = 3, 5
"""Fewer large steps than the first, and as many others after them as the second: single bad batches, no trouble."""


class _Row(IntEnum):
    """What is remembered of a layer in trouble; all are 0 of the others."""

    ENERGY = 0  # the sum of the squared ratios, the old ones forgotten
    REACH = 1  # the longest way that the weights have come
    START = 2  # their norm when the trouble began
    BEYOND = 3  # large steps since
    STILL = 4  # steps since the last large one


class LayerLRReduction:
    """Remembers layers whose weights a step would have replaced, and finds a rate for each.

    The rate is the user's times ``reach / (|w| * sqrt(sum(ratio**2)))``, if that is lower: that of DoG for each layer
    (Ivgi et al. 2023, arXiv 2302.12022), which suits whatever the right rate is. `reach` is the longest way that the
    weights have come, from 0.001 of their norm on: short steps at first, longer ones as soon as these lead somewhere.
    We differ: the way is told by the norm of the weights, ``sqrt(||w|**2 - |w_0|**2|)``, in place of a copy of them;
    the sum forgets 0.2 % per step, so that the user's rate comes back, and the trouble is over when it has.

    One or two large steps with 5 others after them were bad batches: those others are left as they are.

    Args:
        limit: A relative update beyond it is large.
        layers: [L] their names.
        least: [L] what the norm of a layer's weights is taken to be at least.
        state: What `state_dict` gave, of whichever layers.
    """

    def __init__(self, limit: float, layers: Sequence[str], least: Tensor, state: Mapping[str, list[float]]) -> None:
        self._limit, self._layers, self._least = limit, layers, least
        rows = [state.get(layer, [0.0] * len(_Row)) for layer in layers]
        self._memory = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(_Row)).T

    @property
    def hot(self) -> bool:
        """Whether any layer is in trouble; waits for the device."""
        return bool(self._memory.any())

    def weigh(self, norms: Tensor) -> Tensor:
        """Takes in the norms of the layers' weights [L], and how far those in trouble have come.

        Returns:
            [L] one over the sizes that updates are relative to.
        """
        self._least, self._memory = self._least.to(norms.device), self._memory.to(norms.device, non_blocking=True)
        sizes = torch.maximum(norms, self._least)
        self._over_sizes = 1.0 / sizes
        self._unbearable = (ORDINARY * self._least / sizes).clamp(min=max(UNBEARABLE, self._limit))
        none = torch.zeros_like(norms)
        self._fresh = torch.stack([none, FIRST_STEP * sizes, norms, none, none])
        come = (norms.square() - self._memory[_Row.START].square()).abs().sqrt()
        reach = torch.where(self._memory[_Row.ENERGY] > 0, torch.maximum(self._memory[_Row.REACH], come), 0.0)
        self._memory = torch.cat([self._memory[: _Row.REACH], reach[None], self._memory[_Row.START :]])
        return self._over_sizes

    def factors(self, ratios: Tensor, otherwise: Tensor, finite: Tensor) -> Tensor:
        """[L] factors for this step's gradients; learns from it.

        Args:
            ratios: [L] relative updates. `weigh` must have been called.
            otherwise: [L] factors of layers that are in none.
            finite: 0-dim, whether the step is one to learn from.
        """
        large = ratios > self._limit
        old = self._memory[_Row.ENERGY] > 0
        new = (ratios >= self._unbearable) & ~old
        energy, reach, start, beyond, still = torch.where(new, self._fresh, self._memory)
        counted = ratios.clamp(max=WINSOR * self._limit)
        energy = torch.addcmul(KEEP**2 * energy, counted, counted)
        beyond, still = beyond + large, (still + 1.0) * ~large
        rate = reach * self._over_sizes * energy.rsqrt()
        sure = beyond >= FEW
        trouble = (old | new) & (large | ((rate < 1.0) & (sure | (still < QUIET))))
        memory = torch.where(trouble, torch.stack([energy, reach, start, beyond, still]), 0.0)
        self._memory = torch.where(finite, memory, self._memory)
        left = (rate * counted).clamp(max=LONGEST_STEP * self._limit)
        return torch.where(trouble & (large | sure), left / ratios, otherwise)

    def state_dict(self) -> dict[str, list[float]]:
        """What is remembered, by layer: of those in trouble."""
        remembered = zip(self._layers, self._memory.T.tolist(), strict=True)
        return {layer: row for layer, row in remembered if row[_Row.ENERGY] > 0}
