# SPDX-License-Identifier: Apache-2.0
"""The true relative update: how far a step moved the weights, as a share of their norm.

Exact for every optimizer, since it compares the weights themselves: those of a subset are copied before the step and
compared after it. The subset is bounded in bytes and moves on each time, so that all parameters have their turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_gradwatch.measurement import kernels
from lightning_gradwatch.measurement.meter import Meter
from lightning_gradwatch.snapshot import Floats, GradientSnapshot

MOST_BYTES = 64 * 2**20
"""Bound on the copied weights."""

_TINY = 1e-12


class UpdateProbe:
    """Measures the relative update of some parameters of one optimizer.

    Args:
        meter: Whose parameters.

    Attributes:
        indices: [k] parameters whose weights are kept for comparison.
        next: The parameter whose turn it is.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._before: list[Tensor] = []
        self.indices: list[int] = []
        self.next = 0

    def arm(
        self, wanted: Sequence[int] | None = None, *, most: int | None = None, most_bytes: int = MOST_BYTES
    ) -> None:
        """Copies weights, right before the step.

        Args:
            wanted: These, as far as the bytes go; None for all in turn.
            most: Bound on their number.
            most_bytes: Bound on the copies. At least one parameter is taken unless it alone exceeds `MOST_BYTES`.
        """
        indices = self._turn() if wanted is None else list(wanted)
        taken: list[int] = []
        for i in indices[:most]:
            # Whole sizes, also where this rank holds a shard: all ranks must take the same parameters.
            size = int(self._meter.layout.numel[i]) * self._meter.parameters[i].element_size()
            most_bytes -= size
            if most_bytes < 0 and (taken or size > MOST_BYTES):
                break
            taken.append(i)
        self._before = [part.clone() for part in self._meter.weights(taken)]
        self.indices = taken
        if wanted is None and indices:
            self.next = (self.next + max(len(taken), 1)) % len(indices)

    def measure(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[k] norms of the change, and [k] norms of the weights before it, on the device.

        Args:
            weights: [P] norms of all weights before it, where they are known; else they are measured.
        """
        change = kernels.norms(kernels.differences(self._meter.weights(self.indices), self._before))
        if weights is not None:
            before = weights[kernels.index_on(self.indices, weights.device)]
            return self._meter.whole_norms(change, self.indices), before
        norms = self._meter.whole_norms(torch.cat([change, kernels.norms(self._before)]), self.indices * 2)
        return norms[: len(self.indices)], norms[len(self.indices) :]

    def clear(self) -> None:
        """Forgets the copies: they were used, or the step was not taken."""
        self._before, self.indices = [], []

    def _turn(self) -> list[int]:
        size = len(self._meter.parameters)
        return [(self.next + i) % size for i in range(size)]


class UpdateBound:
    """How large the relative updates of a step may be, from the optimizer's settings.

    SGD moves by at most ``lr * |g| / (1 - momentum)`` while the gradient does not shrink; Adam and its kin by
    ``lr * sqrt(n) * max(1, (1 - beta1) / sqrt(1 - beta2))`` (Kingma & Ba 2014, arXiv 1412.6980, section 2.1). Weight
    decay is left out. Good for finding the few steps at which a measurement is worth its price, not for a verdict.
    """

    def __init__(self) -> None:
        self._known: tuple[Floats | None, list[Any]] = (None, [])
        self._fixed: Floats | None = None
        self._slope: Floats | None = None

    def of(
        self, settings: Sequence[Mapping[str, Any]], groups: Sequence[NDArray[np.intp]], snapshot: GradientSnapshot
    ) -> Floats | None:
        """[P] the bound for this step; 0 for what is no matrix, and where the weights are zero.

        Args:
            settings: ``optimizer.param_groups``.
            groups: The parameters of each group, as indices.
            snapshot: Of this step.

        Returns:
            None for an optimizer of another kind, a learning rate that is not on the host, or weights not yet measured.
        """
        rates = [group.get("lr") for group in settings]
        if self._known[0] is not snapshot.weight_norms or self._known[1] != rates:
            self._known = snapshot.weight_norms, rates
            self._fixed, self._slope = _bound(settings, groups, snapshot)
        if self._fixed is None or self._slope is None:
            return self._fixed
        with np.errstate(invalid="ignore"):  # 0 times inf; such a step is judged by other rules
            return self._fixed + self._slope * snapshot.norms


def _bound(
    settings: Sequence[Mapping[str, Any]], groups: Sequence[NDArray[np.intp]], snapshot: GradientSnapshot
) -> tuple[Floats | None, Floats | None]:
    """[P] what does not depend on the norms of the gradients, and [P] what they are to be multiplied by."""
    weights = snapshot.weight_norms
    if weights is None or not all(_known_kind(group) for group in settings):
        return None, None
    fixed, slope = np.zeros_like(weights), np.zeros_like(weights)
    for group, members in zip(settings, groups, strict=True):
        if "betas" in group:
            beta1, beta2 = map(float, group["betas"][:2])
            largest = max(1.0, (1 - beta1) / max(1 - beta2, _TINY) ** 0.5)
            fixed[members] = float(group["lr"]) * largest * np.sqrt(snapshot.layout.numel[members])
        else:
            slope[members] = float(group["lr"]) / max(1 - float(group["momentum"]), _TINY)
    counts = snapshot.layout.matrix & (weights > 0)
    share = np.divide(1.0, weights, out=np.zeros_like(weights), where=counts)
    return fixed * share, slope * share if slope.any() else None


def _known_kind(group: Mapping[str, Any]) -> bool:
    lr = group.get("lr")
    return lr is not None and not (isinstance(lr, Tensor) and lr.is_cuda) and ("betas" in group or "dampening" in group)
