# SPDX-License-Identifier: Apache-2.0
"""What happens to the weights between two steps: whether what a step left is what the next one finds.

Some entries of some matrices are compared, so that it costs next to nothing: 64 of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST, ENTRIES = 64, 64
"""Matrices, and entries of each, that are compared at most."""


class Between:
    """Compares the weights before a step, after it, and before the next one.

    Args:
        parameters: Those of one optimizer, whole on this rank.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._before: Tensor | None = None
        self._left: Tensor | None = None
        self.indices: list[int] = []

    def before(self, indices: Sequence[int]) -> None:
        """Right before a step: remembers entries of those of these parameters that are matrices of some size."""
        self._left = None
        fit = [i for i in indices if self._parameters[i].dim() > 1 and self._parameters[i].numel() >= ENTRIES]
        fit = [i for i in fit if self._parameters[i].is_contiguous()]
        self.indices = fit[:: -(-len(fit) // MOST)] if fit else []
        self._before = self._entries() if self.indices else None

    def left(self) -> None:
        """Right after that step."""
        if self._before is not None:
            self._left = self._entries()

    def found(self) -> Tensor | None:
        """[2k] at the next step, for `indices`, on the device; None if unknown.

        First the share of the last step that was undone since, then by how many times that step they moved since; NaN
        where it moved nothing.
        """
        before, left = self._before, self._left
        self._before = self._left = None
        if before is None or left is None:
            return None
        step, since = left - before, self._entries() - left
        squares = step.square().sum(1)
        undone = -(step * since).sum(1) / squares
        since_then = (since.square().sum(1) / squares).sqrt()
        return torch.stack([undone, since_then]).where(squares > 0, torch.nan).flatten()

    def clear(self) -> None:
        """Forgets a step that was not taken, or weights that are others now."""
        self._before = self._left = None

    def _entries(self) -> Tensor:
        """[k, 64] evenly spaced entries, in single precision at least; copies."""
        parts = []
        for i in self.indices:
            flat = self._parameters[i].detach().view(-1)
            few = flat[:: len(flat) // ENTRIES][:ENTRIES]
            parts.append(few if few.dtype == torch.float64 else few.float())
        return torch.cat(parts).view(len(parts), ENTRIES)
