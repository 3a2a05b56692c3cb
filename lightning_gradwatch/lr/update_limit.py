# SPDX-License-Identifier: Apache-2.0
"""Limits the learning rates of a coming step to updates that the weights survive, where clipping is of no use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.optim import Optimizer

from lightning_gradwatch.lr.adam_limit import AdamLimit
from lightning_gradwatch.lr.known import is_adam_like, is_sgd, obeys_rate, searches
from lightning_gradwatch.lr.measured_unit import MeasuredUnit
from lightning_gradwatch.lr.momentum_hold import MomentumHold
from lightning_gradwatch.snapshot import Floats, ParameterInfo


@dataclass(frozen=True, slots=True)
class Limited:
    """Learning rates that are too high for the coming step.

    Attributes:
        ratios: [G] the relative updates that they would make.
        scales: [G] what they are multiplied by.
    """

    ratios: list[float]
    scales: list[float]


class UpdateLimit:
    """Limits the relative update of one optimizer by its learning rates.

    Adam's kin is limited from the first step on. SGD is held where its rate jumps; its gradients are what
    `TrustRatioClip` bounds. Any other optimizer is measured first, and limited only if its rate turns out to decide
    how far a step goes. One that finds its rate by itself, or searches a line, is left alone.

    Args:
        limit: Largest relative update that is left alone.
        optimizer: Whose.
    """

    def __init__(self, limit: float, optimizer: Optimizer) -> None:
        self._limit, self._optimizer = limit, optimizer
        self._adam = AdamLimit(limit)
        self._hold = MomentumHold(limit) if is_sgd(optimizer) else None
        is_known = is_adam_like(optimizer) or self._hold is not None or searches(optimizer)
        self._measured = None if is_known else MeasuredUnit()

    @property
    def is_due(self) -> bool:
        """Whether the update of the coming step has to be measured."""
        return self._measured is not None and self._measured.is_due and self._obeys

    def find(
        self, layout: ParameterInfo, weights: Floats, groups: Sequence[NDArray[np.intp]], scale: float
    ) -> Limited | None:
        """Judges the coming step; None where its rates are left as they are.

        Args:
            layout: Names and shapes.
            weights: [P] norms of the weights at a recent step.
            groups: The parameters of each group, as indices.
            scale: What the learning rates are going to be multiplied by anyway.
        """
        settings = self._optimizer.param_groups
        if self._hold is not None:
            held = self._hold.scales(weights, settings, scale)
            return None if held is None else Limited([self._hold.ratio] * len(held), held)
        limited = self._adam.scales(layout, weights, settings, groups, self._units(), scale)
        return None if limited is None else Limited(list(self._adam.ratios), limited)

    def learn(
        self,
        layout: ParameterInfo,
        groups: Sequence[NDArray[np.intp]],
        norm: float,
        moved: Floats | None,
        scales: Sequence[float],
    ) -> None:
        """Takes in a step that is over.

        Args:
            layout: Names and shapes.
            groups: The parameters of each group, as indices.
            norm: Of the gradient as the optimizer got it.
            moved: [P] norms of the change of the weights, NaN where not measured; None if nowhere.
            scales: [G] what the learning rates were multiplied by.
        """
        if self._hold is not None:
            self._hold.learn(self._optimizer.param_groups, norm)
        elif self._measured is not None:
            self._measured.learn(layout, groups, self._optimizer.param_groups, moved, scales)

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of the momentum, or of what was measured."""
        return {} if self._memory is None else self._memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken, by an optimizer of the same kind."""
        expected = {} if self._memory is None else self._memory.state_dict()
        if self._memory is not None and state.keys() == expected.keys():
            self._memory.load_state_dict(state)

    @property
    def _memory(self) -> MomentumHold | MeasuredUnit | None:
        return self._hold or self._measured

    @property
    def _obeys(self) -> bool:
        return all(obeys_rate(self._optimizer, group) for group in self._optimizer.param_groups)

    def _units(self) -> list[float]:
        """[G] an entry's change per learning rate; 0 where the rate says nothing of it, or must not be touched."""
        groups = len(self._optimizer.param_groups)
        if is_adam_like(self._optimizer):
            return [1.0] * groups
        return self._measured.units(groups) if self._measured is not None and self._obeys else [0.0] * groups
