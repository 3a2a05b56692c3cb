# SPDX-License-Identifier: Apache-2.0
"""What a clip law is: one that limits the norm of the whole gradient, or one that limits its entries one by one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


class _Configured:
    """Keeps each constructor argument `x` as an attribute `_x`, so that it can be shown and copied."""

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, f"_{name}") for name in signature(type(self)).parameters}

    def __repr__(self) -> str:
        defaults = [parameter.default for parameter in signature(type(self)).parameters.values()]
        told = zip(self._arguments().items(), defaults, strict=True)
        shown = [f"{name}={value!r}" for i, ((name, value), default) in enumerate(told) if i == 0 or value != default]
        return f"{type(self).__name__}({', '.join(shown)})"


class Law(_Configured, ABC):
    """A limit for the L2 norm of the gradient, fixed or learned from past norms.

    One law serves one optimizer, or one parameter group: `clone` makes the others. Per step: read `limit` and `factor`,
    then tell `update` the norm as it was before clipping. A subclass keeps each constructor argument `x` as `_x`,
    and what it remembers in `_remember` and `_recall`.

    Attributes:
        standalone: Whether the law is meant to act alone, since it is the user's own limit or a rule as published.
    """

    standalone: ClassVar[bool] = True
    _former_name: ClassVar[str | None] = None  # under which older checkpoints keep its state

    @abstractmethod
    def limit(self) -> float:
        """The largest norm that passes untouched at the coming step; inf while nothing is limited. From past norms."""

    def factor(self, norm: Tensor) -> Tensor:
        """The multiplier in [0, 1] for this step's gradients. Pure, without a host sync.

        Args:
            norm: 0-dim, any device and floating dtype; raw, before clipping.

        Returns:
            0-dim, like `norm`: exactly 1 where `norm` is at most `limit` or is not finite. (Multiplying cannot repair a
            gradient with NaN or inf: such a step has to be skipped, which is not the law's business.)
        """
        return torch.where((norm > self.limit()) & (norm < math.inf), self._shrink(norm), 1.0)

    def update(self, norm: float) -> None:
        """Learns from the raw, unclipped norm of the step just judged. Zero and non-finite norms change nothing."""

    def clone(self) -> Self:
        """The same configuration without memory."""
        return type(self)(**self._arguments())

    def state_dict(self) -> dict[str, Any]:
        """The memory as numbers, strings and lists, exact also through ``torch.load(weights_only=True)``."""
        return {"law": type(self).__name__, **self._remember()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned; the configuration stays that of the constructor.

        Raises:
            ValueError: `state` is broken or was saved by another law. Nothing has changed then.
        """
        mine, saved_by = type(self).__name__, state.get("law") if isinstance(state, Mapping) else None
        if saved_by is None or saved_by not in (mine, self._former_name):
            raise ValueError(
                f"`state` must be saved by {mine}, got one saved by {saved_by or 'no law'}."
                " Resume with the law that saved it, or do not load its state."
            )
        restored = self.clone()
        try:
            restored._recall(state)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"`state` must be what {mine}.state_dict() returned, but it is broken ({error!r})."
                " Load another checkpoint, or do not load this state."
            ) from error
        vars(self).update(vars(restored))

    def _shrink(self, norm: Tensor) -> Tensor:
        """The factor for a finite `norm` above the limit; elsewhere any value."""
        return self.limit() / norm

    def _remember(self) -> dict[str, Any]:
        return {}

    def _recall(self, state: Mapping[str, Any]) -> None:
        """Reads what `_remember` wrote into a fresh law; KeyError, TypeError, ValueError or OverflowError if broken."""


class ElementwiseLaw(_Configured, ABC):
    """Limits entries or rows one by one, from the gradients and weights of this step alone: it has no memory."""

    standalone: ClassVar[bool] = True

    @abstractmethod
    def apply_(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], names: Sequence[str], scale: Tensor | float = 1.0
    ) -> None:
        """Limits the gradients in place, without a host sync; a NaN stays where it is.

        Args:
            params: [P] weights, any shapes, P = parameters that have a gradient. Sharded ones as local shards.
            grads: [P] their gradients, dense, or sparse as ``nn.Embedding(sparse=True)`` makes them.
            names: [P] as the user's module names them.
            scale: What the gradients are still multiplied by (fused optimizers under a GradScaler): the limits are
                meant for ``grads / scale``. A tensor is 0-dim, on the gradients' device.
        """


def entries(grad: Tensor) -> Tensor:
    """What a gradient stores: itself, or the values [n, ...] of a sparse one, which is coalesced in place first."""
    if not grad.is_sparse:
        return grad
    if not grad.is_coalesced():
        grad.copy_(grad.coalesce())
    return grad.values()
