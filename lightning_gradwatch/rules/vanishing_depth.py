# SPDX-License-Identifier: Apache-2.0
"""Gradients that do not reach some of the layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.depth import Indices, account, layers_of, sensitivities
from lightning_gradwatch.rules.hysteresis import Hysteresis
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.per_parameter import PerParameter
from lightning_gradwatch.rules.rule import event, usable
from lightning_gradwatch.snapshot import Bools, Floats, GradientSnapshot

_LOOKS = 10  # per window
_KEEP = 0.8  # of the share of looks, per look: half of it after three looks, so that it speaks of about half a window
_FORGET = 0.01  # a share below it counts as 0
_MOST = 0.5  # a share above it means: the median over the looks
_MATRICES = 0.2  # of all that take part
_FALLS = 0.8  # rank correlation of s with depth: a profile that falls layer by layer
_SINGLE = 0.5  # of the whole fall, in logarithms
_FEWEST = 6  # matrices that make such a profile
_DOUBTLESS = 10.0  # times the ratio, for such a profile
_SMALL = 1  # row of the remedy table
_SEVERITY = {True: Severity.ALARM, False: None, None: Severity.WARNING}


class VanishingDepth:
    """Finds layers to which the loss hardly responds, in a training that makes no progress.

    Per look each matrix is held against the largest: s < `ratio` times max s; ten times the ratio where s falls towards
    the input layer by layer, as a product of small factors does. A matrix is starved if that is so in most of the
    recent looks, which for a steady net is a statement on the median of s / max s. At least a fifth of the matrices
    must be. Clears at three times the limit.

    Args:
        losses: Asked while the condition holds: progress, or a loss near 0, means that nothing is wrong.
        window: Optimizer steps to look back; verdicts begin after two of them.
        ratio: s over the largest s, in (0, 1).
        patience: Consecutive steps beyond that.
    """

    def __init__(self, losses: LossHistory, *, window: int = 50, ratio: float = 1e-3, patience: int = 1) -> None:
        self.window = window
        self.ratio = ratio
        self._losses = losses
        self._latch = Hysteresis(patience)
        self._shares = PerParameter(2)  # of the recent looks: below the ratio, below three times the ratio
        self._steps = 0
        self._low = False  # whether any share is above 0
        self._limit = ratio  # of the latest look

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Looks ten times per window."""
        if usable(snapshot) is None:
            return []
        self._steps += 1
        return self._look(snapshot) if self._steps % max(1, self.window // _LOOKS) == 0 else []

    def state_dict(self) -> dict[str, Any]:
        """The shares by name, and what was reported."""
        return {
            "steps": self._steps,
            "low": self._low,
            "shares": self._shares.state_dict(),
            "latch": self._latch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._steps, self._low = state["steps"], state["low"]
        self._shares.load_state_dict(state["shares"])
        self._latch.load_state_dict(state["latch"])

    def _look(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        chosen, s = sensitivities(snapshot)
        if len(s) < 2:
            return []
        relative = s / s.max()
        if not self._low and not relative.min() < 3 * _DOUBTLESS * self.ratio:
            return []
        shares = self._shares.align(snapshot.layout)
        self._limit = limit = self.ratio * (_DOUBTLESS if _falls(relative) else 1.0)
        below = np.stack([relative < limit, relative < 3 * limit])
        shares[:, chosen] += (1 - _KEEP) * (below - shares[:, chosen])
        shares[shares < _FORGET] = 0
        self._low = bool(shares.any())
        starved, nearly = shares[:, chosen] > _MOST
        if not nearly.mean() >= _MATRICES:
            self._latch.clear()
        if self._steps < 2 * self.window or not starved.mean() >= _MATRICES or self._latch.worst:
            return []
        severity = _SEVERITY[self._losses.stuck()]
        if not self._latch.passes(self._steps, severity) or severity is None:
            return []
        return [self._found(snapshot, severity, chosen, s, starved)]

    def _found(
        self, snapshot: GradientSnapshot, severity: Severity, chosen: Indices, s: Floats, starved: Bools
    ) -> GradientEvent:
        best = int(s.argmax())
        order = np.flatnonzero(starved)
        order = order[np.argsort(-abs(order - best), kind="stable")]  # what vanishes does so on its way: the far end
        depth = len(layers_of(snapshot, chosen))
        return event(
            snapshot,
            EventKind.VANISHING,
            severity,
            _SMALL,
            layers=layers_of(snapshot, chosen[order]),
            value=float(s[starved].min() / s[best]),
            limit=self._limit,
            message=f"{account(snapshot, chosen, s, best, int(order[0]))}\n{self._losses.line()}",
            cause=f"small derivatives (a sigmoid's is at most 1/4) or small weights, multiplied over {depth} layers",
        )


def _falls(s: Floats) -> bool:
    """Whether s falls on its way to the input, and no single layer makes half of the fall."""
    if len(s) < _FEWEST:
        return False
    ranks = np.argsort(np.argsort(s))
    steps = np.diff(np.log(s))
    ordered = np.corrcoef(ranks, np.arange(len(s)))[0, 1] > _FALLS
    return bool(ordered and steps.max() < _SINGLE * steps.sum())
