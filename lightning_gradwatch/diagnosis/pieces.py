# SPDX-License-Identifier: Apache-2.0
"""Large tensors a piece at a time: a look into a network must not need room for a second copy of what it reads.

On a GPU that is filled by the training, the copy of one batch of logits could end it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST_AT_ONCE = 2**22
"""Entries; 16 MiB in float32."""


def pieces(tensor: Tensor) -> Sequence[Tensor]:
    """Views along the longest axis, of at most `MOST_AT_ONCE` entries where its other axes are no longer than that."""
    if tensor.numel() <= MOST_AT_ONCE:
        return [tensor]
    axis = max(range(tensor.dim()), key=lambda i: tensor.shape[i])
    return torch.split(tensor, max(1, MOST_AT_ONCE * tensor.shape[axis] // tensor.numel()), axis)


def leading(tensor: Tensor, least: int) -> Tensor:
    """The first rows, at least `least` of them, of no more than `MOST_AT_ONCE` entries in all; all rows if they fit."""
    if tensor.numel() <= MOST_AT_ONCE:
        return tensor
    return tensor[: max(least, MOST_AT_ONCE * tensor.shape[0] // tensor.numel())]


def largest(tensor: Tensor) -> Tensor:
    """The largest absolute entry, 0-dim float32; NaN if one is."""
    known = tensor if tensor.element_size() > 1 else tensor.float()  # of float8, torch knows no extremes
    return torch.stack(tuple(known.aminmax())).float().abs().amax()


def rms(tensor: Tensor) -> Tensor:
    """The root mean square, 0-dim float32. Divided by the largest entry first: the square of 1e30 is beyond float32."""
    most = largest(tensor)
    by = most.clamp(min=1e-30)
    total = torch.stack([(piece.float() / by).square().sum() for piece in pieces(tensor)]).sum()
    return (total / tensor.numel()).sqrt() * most
