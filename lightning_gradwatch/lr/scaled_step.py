# SPDX-License-Identifier: Apache-2.0
"""Learning rates that an optimizer has for one step only, and its own, which it gets back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

Group = dict[str, Any]


class ScaledStep:
    """The rates that each optimizer came with, while it steps with others."""

    def __init__(self) -> None:
        self._own: dict[int, list[tuple[Group, Any]]] = {}

    def lend(self, optimizer: int, groups: Sequence[Group], scales: Sequence[float]) -> None:
        """Multiplies the rates of the groups, once until `take_back`."""
        if all(scale == 1.0 for scale in scales) or optimizer in self._own:
            return
        self._own[optimizer] = [(group, _copy(group["lr"])) for group in groups]
        for group, scale in zip(groups, scales, strict=True):
            _set(group, group["lr"] * scale)

    def take_back(self, optimizer: int) -> None:
        """Gives each group its own rate again."""
        for group, lr in self._own.pop(optimizer, ()):
            _set(group, lr)


def _copy(lr: Any) -> Any:
    return lr.clone() if isinstance(lr, Tensor) else lr


def _set(group: Group, lr: Any) -> None:
    """Tensor rates are changed in place: compiled and capturable optimizers hold on to them."""
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(lr)
    else:
        group["lr"] = lr
