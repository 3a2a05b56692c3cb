# SPDX-License-Identifier: Apache-2.0
"""The clippers to compare with, as Lightning callbacks: ZClip and AutoClip as published, weaknesses included.

Written from the papers and from what their code was seen to do; their costs are theirs too: ZClip reads one number per
step from the device, AutoClip one per parameter.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from typing_extensions import override


class ZClip(Callback):
    """Takes a norm of more than `z` standard deviations above the mean back towards the mean.

    Source: Kumar et al. 2025, arXiv 2504.02507, mode "zscore" with "adaptive_scaling", and its callback's defaults.

    Args:
        z: Standard deviations above the mean that are a spike.
        alpha: What the moving averages keep per step.
        warmup_steps: Steps that the first statistics are taken from.
        max_norm: A limit that always holds; None for none.
    """

    def __init__(
        self, *, z: float = 2.5, alpha: float = 0.97, warmup_steps: int = 25, max_norm: float | None = 1.0
    ) -> None:
        self.z, self.alpha, self.warmup_steps = z, alpha, warmup_steps
        self.max_norm = math.inf if max_norm is None else max_norm
        self.buffer: list[float] = []
        self.mean = self.variance = 0.0

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        gradients = gradients_of(pl_module)
        norm = torch.stack([g.norm(2) for g in gradients]).norm(2).item() if gradients else 0.0
        limit = self.limit(norm)
        if norm > limit:
            for gradient in gradients:
                gradient.mul_(limit / (norm + 1e-6))

    def limit(self, norm: float) -> float:
        """What a gradient of `norm` is taken back to, if it is above; learns from it."""
        if len(self.buffer) < self.warmup_steps:
            self.buffer.append(norm)
            self.mean = float(np.mean(self.buffer))
            self.variance = float(np.var(self.buffer))
            return self.max_norm
        deviation = math.sqrt(self.variance)
        z = (norm - self.mean) / (deviation + 1e-6)
        target = self.mean + self.z * deviation / (z / self.z) if z > self.z else norm
        self.mean = self.alpha * self.mean + (1 - self.alpha) * target
        self.variance = self.alpha * self.variance + (1 - self.alpha) * (target - self.mean) ** 2
        return min(target, self.max_norm)


class AutoClip(Callback):
    """Limits the norm to a percentile of all norms so far, this one included.

    Source: Seetharaman et al. 2020, arXiv 2007.14469.

    Args:
        percentile: In [0, 100]; 10 is the paper's, which clips most steps on purpose.
    """

    def __init__(self, *, percentile: float = 10.0) -> None:
        self.percentile = percentile
        self.norms: list[float] = []

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.norms.append(math.hypot(*(g.norm(2).item() for g in gradients_of(pl_module))))
        with np.errstate(invalid="ignore"):  # between two infinite norms numpy knows no percentile
            limit = float(np.percentile(self.norms, self.percentile))
        clip_grad_norm_(pl_module.parameters(), limit)


def gradients_of(module: LightningModule) -> list[Tensor]:
    """The gradients that exist."""
    return [p.grad for p in module.parameters() if p.grad is not None]
