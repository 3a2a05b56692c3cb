# SPDX-License-Identifier: Apache-2.0
"""A fixed limit for each entry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_gradwatch.arguments import positive
from lightning_gradwatch.laws.base import ElementwiseLaw, entries


class ValueClip(ElementwiseLaw):
    """Clamps each entry of the gradient to [-value, value], as `torch.nn.utils.clip_grad_value_`.

    It bends the direction of the gradient; where that is not wanted, take a law for the norm. An infinite entry is
    clamped as well, a NaN stays.

    Args:
        value: The largest absolute entry, above 0.

    Raises:
        TypeError: `value` is not a number.
        ValueError: `value` is out of range.
    """

    def __init__(self, value: float = 1.0) -> None:
        self._value = positive("value", value)

    @torch.no_grad()
    def apply_(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], names: Sequence[str], scale: Tensor | float = 1.0
    ) -> None:
        """See `ElementwiseLaw.apply_`; `params` and `names` play no part."""
        if not grads:  # the foreach functions want at least one
            return
        stored = [entries(grad) for grad in grads]
        limit = self._value * scale
        if isinstance(limit, Tensor):
            torch._foreach_clamp_min_(stored, [-limit] * len(stored))
            torch._foreach_clamp_max_(stored, [limit] * len(stored))
        else:
            limits = [min(limit, torch.finfo(grad.dtype).max) for grad in grads]  # float16 takes no larger scalar
            torch._foreach_clamp_min_(stored, [-x for x in limits])
            torch._foreach_clamp_max_(stored, limits)
