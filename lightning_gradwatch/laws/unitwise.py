# SPDX-License-Identifier: Apache-2.0
"""A limit for each row of a weight, relative to that row: adaptive gradient clipping (AGC)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

import torch
from torch import Tensor

from lightning_gradwatch.arguments import patterns, positive
from lightning_gradwatch.laws.base import ElementwiseLaw, entries


class UnitwiseClip(ElementwiseLaw):
    """Limits the norm of each unit's gradient to `clipping` times the norm of that unit's weights.

    A unit is what feeds one output: a row of a matrix, a filter of a convolution, all but dimension 0. Parameters with
    fewer than two dimensions (biases, scales) pass untouched. Keep the last layer, the classifier, out with `exclude`.
    Of no use with optimizers that only look at signs, such as Lion.

    Source: Brock et al. 2021, arXiv 2102.06171, eq. 3.
    We differ: a row with a NaN is left as it is. Where a row's norm overflows float32 (above 1.8e19), it is not known,
    and the largest float32 takes its place: the row becomes smaller than the limit.

    Args:
        clipping: Largest ratio of the norms, above 0.
        eps: Floor for the norm of the weights, above 0, without which weights that start at zero would never train.
        exclude: Name patterns (fnmatch) of parameters to leave alone, such as ``"head.*"``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
    """

    def __init__(self, *, clipping: float = 0.01, eps: float = 1e-3, exclude: str | list[str] | None = None) -> None:
        self._clipping = positive("clipping", clipping)
        self._eps = positive("eps", eps)
        self._exclude = exclude
        self._excluded = re.compile("|".join(map(translate, patterns("exclude", exclude))) or r"(?!)")  # (?!): nothing

    @torch.no_grad()
    def apply_(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], names: Sequence[str], scale: Tensor | float = 1.0
    ) -> None:
        """See `ElementwiseLaw.apply_`. Sharded weights must be cut between rows, as FSDP2 does by default."""
        by_device: dict[torch.device, list[tuple[Tensor, Tensor]]] = {}
        for param, grad, name in zip(params, grads, names, strict=True):
            if param.ndim > 1 and not self._excluded.match(name):
                values = entries(grad)
                weight = param.index_select(0, grad.indices()[0]) if grad.is_sparse else param
                by_device.setdefault(grad.device, []).append((weight, values))
        for pairs in by_device.values():
            self._limit_(pairs, scale)

    def _limit_(self, pairs: Sequence[tuple[Tensor, Tensor]], scale: Tensor | float) -> None:
        # All units of all parameters side by side, [U]: the arithmetic costs a handful of kernels, not P handfuls.
        weights = torch.cat([_unit_norms(weight) for weight, _ in pairs])
        limits = weights.clamp(min=self._eps) * (self._clipping * scale)
        norms = torch.cat([_unit_norms(values) for _, values in pairs])
        norms = norms.clamp(max=torch.finfo(norms.dtype).max)  # with inf the factor is 0, and 0 * inf is NaN
        factors = torch.where(norms > limits, limits / norms, 1.0)
        for (_, values), factor in zip(pairs, torch.split(factors, [len(v) for _, v in pairs]), strict=True):
            values.mul_(factor.view(-1, *[1] * (values.ndim - 1)))


def _unit_norms(tensor: Tensor) -> Tensor:
    """[n] L2 norms over all but dimension 0 of [n, ...], in float32 at least."""
    wide = torch.promote_types(tensor.dtype, torch.float32)
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), dtype=wide)
    return norms
