# SPDX-License-Identifier: Apache-2.0
"""Large tensors a piece at a time: a look into a network must not need room for a second copy of what it reads.

The logits of a language model are often the largest tensor of a step. Where they just fit on a GPU, a copy of them
would end the training.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

MOST_AT_ONCE = 2**22
"""Entries; 16 MiB in float32."""


def pieces(tensor: Tensor, *, whole: int | None = None) -> tuple[Tensor, ...]:
    """Views of at most `MOST_AT_ONCE` entries, along one axis; of more only where the other axes always hold more.

    Args:
        tensor: Of any shape.
        whole: An axis that is not cut.
    """
    axis = _axis(tensor, whole)
    return (tensor,) if axis is None else torch.split(tensor, _length(tensor, axis), axis)


def with_rows(tensor: Tensor, row: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces, each with its part of what all rows are held against.

    Args:
        tensor: [n, ...].
        row: [1, ...], otherwise of the same shape.
    """
    axis = _axis(tensor, None)
    if axis is None:
        yield tensor, row
        return
    length = _length(tensor, axis)
    parts = torch.split(tensor, length, axis)
    yield from zip(parts, torch.split(row, length, axis) if axis else [row] * len(parts), strict=True)


def total(parts: list[Tensor]) -> Tensor:
    """The sum of 0-dim tensors."""
    return torch.stack(parts).sum()


def largest(tensor: Tensor) -> Tensor:
    """The largest absolute entry, 0-dim float32; NaN if one is."""
    known = tensor if tensor.element_size() > 1 else tensor.float()  # of float8, torch knows no extremes
    return torch.stack(torch.aminmax(known)).float().abs().amax()


def rms(tensor: Tensor) -> Tensor:
    """The root mean square, 0-dim float32. Divided by the largest entry first: the square of 1e30 is beyond float32."""
    most = largest(tensor)
    by = most.clamp(min=1e-30)
    return (total([(piece.float() / by).square().sum() for piece in pieces(tensor)]) / tensor.numel()).sqrt() * most


def _axis(tensor: Tensor, whole: int | None) -> int | None:
    """The axis to cut: the first that will do, since such pieces lie close in memory; None where nothing is cut."""
    axes = [i for i in range(tensor.dim()) if i != whole]
    if not axes or tensor.numel() <= MOST_AT_ONCE:
        return None
    enough = (i for i in axes if tensor.numel() // tensor.shape[i] <= MOST_AT_ONCE)
    return next(enough, max(axes, key=lambda i: tensor.shape[i]))


def _length(tensor: Tensor, axis: int) -> int:
    return max(1, MOST_AT_ONCE * tensor.shape[axis] // tensor.numel())
