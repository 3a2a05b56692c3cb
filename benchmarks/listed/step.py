# SPDX-License-Identifier: Apache-2.0
"""What a published rule is shown at each optimizer step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kinds = set[str]


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step of one optimizer, as a naive callback sees it. Arrays are [P], P = its parameters.

    Attributes:
        index: Steps of this optimizer before this one.
        total: Steps that this optimizer will do.
        loss: As the user would log it.
        matrix: True where a parameter has two dimensions or more.
        numel: Number of entries.
        grad_norm: L2 norm; NaN where there is no gradient.
        grad_mean: Mean absolute entry; NaN where there is no gradient.
        zeros: Number of entries that are exactly zero; NaN where there is no gradient.
        finite: Are all gradients that exist finite?
        update_norm: L2 norm of the latest weight change over the L2 norm of the weights; NaN at the first step.
        update_mean: Mean absolute weight change over mean absolute weight; NaN at the first step.
    """

    index: int
    total: int
    loss: float
    matrix: NDArray[np.bool_]
    numel: Floats
    grad_norm: Floats
    grad_mean: Floats
    zeros: Floats
    finite: bool
    update_norm: Floats
    update_mean: Floats

    @property
    def norm(self) -> float:
        """L2 norm of the whole gradient."""
        return float(np.sqrt(np.nansum(self.grad_norm**2))) if self.finite else float("nan")


class Baseline(Protocol):
    """A rule with its own memory: one per optimizer and run."""

    def look(self, step: Step) -> Kinds:
        """The kinds of trouble that the rule sees at this step."""
        ...


def found(**kinds: bool | np.bool_) -> Kinds:
    """The kinds whose condition holds."""
    return {kind for kind, holds in kinds.items() if holds}
