# SPDX-License-Identifier: Apache-2.0
"""A fixed limit for the norm."""

from __future__ import annotations

from torch import Tensor

from lightning_gradwatch.arguments import optional, positive
from lightning_gradwatch.laws.base import Law


class NormClip(Law):
    """Scales the gradient to `target_norm` where its L2 norm is above `max_norm`, as `torch.nn.utils.clip_grad_norm_`.

    ``NormClip(max_norm=10, target_norm=1)`` is the direction-only rule: a gradient above 10 says where to go but not
    how far, and becomes one of norm 1.

    Args:
        max_norm: The largest norm that passes untouched, above 0.
        target_norm: The norm after clipping, above 0 and at most `max_norm`, which is the default.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is out of range.

    Example:
        >>> import torch
        >>> law = NormClip(max_norm=10, target_norm=1)
        >>> law.factor(torch.tensor(9.0)), law.factor(torch.tensor(20.0))
        (tensor(1.), tensor(0.0500))
    """

    def __init__(self, max_norm: float = 1.0, target_norm: float | None = None) -> None:
        self._max_norm = positive("max_norm", max_norm)
        self._target_norm = optional(positive, "target_norm", target_norm)
        if self._target_norm is not None and self._target_norm > self._max_norm:
            raise ValueError(
                f"`target_norm` must be at most `max_norm` = {max_norm!r}, got {target_norm!r}."
                " Clipping never enlarges a gradient: lower `target_norm` or raise `max_norm`."
            )

    def limit(self) -> float:
        """`max_norm`."""
        return self._max_norm

    def _shrink(self, norm: Tensor) -> Tensor:
        # 1e-6 as torch has it, so that the result is the same to the last bit.
        return (self._max_norm if self._target_norm is None else self._target_norm) / (norm + 1e-6)
