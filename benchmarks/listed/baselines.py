# SPDX-License-Identifier: Apache-2.0
"""The published rules that the detectors are compared with, among them those that learn what is normal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from typing_extensions import override

from benchmarks.listed import thresholds
from benchmarks.listed.step import Baseline, Kinds, Step, found


class Sigma(Baseline):
    """OLMo-core's SkipStepOptimizer: loss or norm 6 standard deviations above the mean of 128 steps, after 64."""

    def __init__(self) -> None:
        self.series: tuple[deque[float], ...] = (deque(maxlen=128), deque(maxlen=128))

    @override
    def look(self, step: Step) -> Kinds:
        spike = False
        for past, now in zip(self.series, (step.loss, step.norm), strict=True):
            spike |= len(past) >= 64 and bool(now - np.mean(past) > 6 * np.std(past, ddof=1))
            past.append(now)
        return found(spike=spike)


class LightningSpike(Baseline):
    """Lightning's SpikeDetection: the loss rises and is off the mean of 10 by twice that, or is not finite."""

    def __init__(self) -> None:
        self.past: deque[float] = deque(maxlen=10)

    @override
    def look(self, step: Step) -> Kinds:
        spike = bool(self.past) and not np.isfinite(step.loss)
        if self.past and not spike:
            mean = np.mean(self.past)
            spike = step.loss > self.past[-1] and abs(step.loss - mean) >= abs(2.0 * mean)
        if not spike:
            self.past.append(step.loss)
        return found(spike=spike)


class ZClip(Baseline):
    """ZClip's z as an alarm. Source: Kumar et al., 2025, arXiv 2504.02507: alpha 0.97, z 2.5, 25 steps of warm-up."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.mean = self.variance = 0.0

    @override
    def look(self, step: Step) -> Kinds:
        if len(self.first) < 25:
            self.first.append(step.norm)
            self.mean, self.variance = float(np.mean(self.first)), float(np.var(self.first))
            return set()
        std = self.variance**0.5
        z = (step.norm - self.mean) / (std + 1e-6)
        fed = self.mean + 2.5 * std * 2.5 / z if z > 2.5 else step.norm
        self.mean = 0.97 * self.mean + 0.03 * fed
        self.variance = 0.97 * self.variance + 0.03 * (fed - self.mean) ** 2
        return found(spike=z > 2.5)


class GradSnitch(Baseline):
    """gradsnitch, 2026: norm 8 times the median of 50; norm below 5 % of the early one, loss not down by 20 %."""

    def __init__(self) -> None:
        self.norms, self.losses = list[float](), list[float]()

    @override
    def look(self, step: Step) -> Kinds:
        self.norms.append(step.norm)
        self.losses.append(step.loss)
        recent = [norm for norm in self.norms[-50:] if np.isfinite(norm)]
        spike = len(recent) >= 10 and step.norm > 8 * np.median(recent)
        return found(spike=spike, vanishing=self._vanished(), nonfinite=not np.isfinite(step.loss))

    def _vanished(self) -> bool:
        n = len(self.norms)
        if n < 40 or n % 10:
            return False
        w = max(10, n // 5)
        early, late = np.nanmedian(self.norms[:w]), np.nanmedian(self.norms[-w:])
        before, after = np.nanmedian(self.losses[:w]), np.nanmedian(self.losses[-w:])
        return bool(early > 0 and late < 0.05 * early and before and (before - after) / abs(before) < 0.2)


BASELINES: dict[str, Callable[[], Baseline]] = {
    "SageMaker vanishing + exploding": thresholds.SageMaker,
    "SageMaker WeightUpdateRatio": thresholds.SageMakerUpdates,
    "SageMaker LossNotDecreasing": thresholds.SageMakerLoss,
    "AutoTrainer, ungated": lambda: thresholds.AutoTrainer(gated=False),
    "AutoTrainer, gated on the loss": lambda: thresholds.AutoTrainer(gated=True),
    "TheDeepChecker gradients": thresholds.DeepCheckerGradients,
    "TheDeepChecker updates": thresholds.DeepCheckerUpdates,
    "OLMo-core 6 sigma": Sigma,
    "Lightning SpikeDetection": LightningSpike,
    "norm > 100 or < 1e-7": thresholds.Absolute,
    "ZClip z > 2.5": ZClip,
    "gradsnitch gradient rules": GradSnitch,
}
