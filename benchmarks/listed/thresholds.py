# SPDX-License-Identifier: Apache-2.0
"""Published rules with fixed thresholds, re-implemented from their documented definitions and constants."""

from __future__ import annotations

from collections import deque

import numpy as np
from typing_extensions import override

from benchmarks.listed.step import Baseline, Floats, Kinds, Step, found


class SageMaker(Baseline):
    """VanishingGradient and ExplodingTensor. Source: AWS documentation, built-in rules: 1e-7; any NaN or inf."""

    @override
    def look(self, step: Step) -> Kinds:
        return found(vanishing=np.any(step.grad_mean < 1e-7), nonfinite=not step.finite)


class SageMakerUpdates(Baseline):
    """WeightUpdateRatio. Source: AWS documentation: outside [1e-8, 10]."""

    @override
    def look(self, step: Step) -> Kinds:
        return found(stalled=np.any(step.update_norm < 1e-8), update_too_large=np.any(step.update_norm > 10.0))


class SageMakerLoss(Baseline):
    """LossNotDecreasing. Source: AWS documentation: less than 0.1 % down, or 5 % up, over 10 steps."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=11)

    @override
    def look(self, step: Step) -> Kinds:
        self.losses.append(step.loss)
        if len(self.losses) < 11:
            return set()
        change = (self.losses[-1] - self.losses[0]) / abs(self.losses[0] or 1e-30)
        return found(stalled=not change < -0.001, explosion=not change < 0.05)


class AutoTrainer(Baseline):
    """Vanishing, exploding and dying ReLU. Source: Zhang et al., 2021 (ICSE), `gradient_issue`: 1e-3 and 1e-4; 70; 0.7.

    Gated as published, but on the loss, not the accuracy: from 30 % of the run on, unless the loss is down by 10 %.
    """

    def __init__(self, *, gated: bool) -> None:
        self.gated, self.losses = gated, list[float]()

    @override
    def look(self, step: Step) -> Kinds:
        self.losses.append(step.loss)
        if self.gated and not self._stuck(step):
            return set()
        if not step.finite:
            return {"explosion", "nonfinite"}
        norms = step.grad_norm[step.matrix & ~np.isnan(step.grad_norm)]
        if not len(norms):
            return set()
        ratio = norms[0] / norms[-1] if norms[-1] > 0 else 1.0
        zeros = np.nansum(step.zeros) / step.numel[~np.isnan(step.zeros)].sum()
        return found(vanishing=ratio < 1e-3 and norms[0] < 1e-4, explosion=ratio > 70, dead=zeros >= 0.7)

    def _stuck(self, step: Step) -> bool:
        late = len(self.losses) >= max(20, 0.3 * step.total)
        return late and not np.median(self.losses[-10:]) < 0.9 * np.median(self.losses[:10])


class DeepCheckerGradients(Baseline):
    """Vanishing and exploding. Source: Ben Braiek and Khomh, 2022 (TOSEM), `settings.yaml`.

    Every 10 steps, matrices only:
    mean absolute gradient below 1e-6 or halving five times running; above 1e6 or doubling five times running.
    """

    def __init__(self) -> None:
        self.means: deque[Floats] = deque(maxlen=5)

    @override
    def look(self, step: Step) -> Kinds:
        if not step.finite:
            return {"nonfinite"}
        self.means.append(step.grad_mean[step.matrix])
        if step.index % 10:
            return set()
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.array([b / a for a, b in zip(self.means, list(self.means)[1:], strict=False)])
        full, now = len(self.means) == 5, self.means[-1]
        return found(
            vanishing=np.any(now < 1e-6) or (full and np.any((rates <= 0.5).all(0))),
            explosion=np.any(now > 1e6) or (full and np.any((rates >= 2.0).all(0))),
        )


class DeepCheckerUpdates(Baseline):
    """Unstable learning. Source: as above.

    The mean over 10 steps of log10(mean|dW| / mean|W|) is outside [-4, -1], or nothing was updated.
    """

    def __init__(self) -> None:
        self.ratios: list[Floats] = []

    @override
    def look(self, step: Step) -> Kinds:
        with np.errstate(divide="ignore"):
            logs = np.log10(step.update_mean[step.matrix])
        if not np.isnan(logs).all():
            self.ratios.append(np.where(np.isinf(logs) & (logs < 0), 0.0, logs))
        if step.index == 0 or step.index % 10 or not self.ratios:
            return set()
        mean, self.ratios = np.mean(self.ratios, axis=0), []
        return found(not_updated=np.any(mean == 0), update_too_large=np.any(mean > -1), stalled=np.any(mean < -4))


class Absolute(Baseline):
    """torch-audit's and DLCheck's limits: norm of the whole gradient above 100, of any parameter below 1e-7."""

    @override
    def look(self, step: Step) -> Kinds:
        return found(explosion=step.norm > 100.0, vanishing=np.any(step.grad_norm < 1e-7), nonfinite=not step.finite)
