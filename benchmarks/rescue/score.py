# SPDX-License-Identifier: Apache-2.0
"""How a run ended, beside the sound one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.listed.tasks import Run

WITHIN = 0.1
JUDGED_BATCHES = 20


@torch.no_grad()
def score(net: nn.Module, sound: Run) -> tuple[float, bool]:
    """The result on the last batches of a sound run, by its loss; and whether it is an accuracy instead.

    Args:
        net: What was trained.
        sound: Not trained: its batches are clean, and others than those of the training.
    """
    batches = sound.batches[-JUDGED_BATCHES:]
    net.eval()
    classes = not batches[0][1].is_floating_point() and batches[0][1].dim() == 1
    values = [float(_accuracy(net(x), y) if classes else sound.module.loss(net(x), y)) for x, y in batches]
    return sum(values) / len(values), classes


def _accuracy(out: Tensor, y: Tensor) -> Tensor:
    # argmax takes NaN for the largest value: weights that are NaN would still name a class.
    return ((out.argmax(1) == y) & out.isfinite().all(1)).float().mean()


def ratio(value: float, sound: float, *, accuracy: bool) -> float:
    """How much worse than the sound result; 1 is as good, NaN stays NaN."""
    if accuracy:
        return sound / value if value > 0 else float("inf")
    return value / sound


def rescued(value: float, sound: float, *, accuracy: bool) -> bool:
    """Within 10 % of the sound result."""
    return value >= (1 - WITHIN) * sound if accuracy else value <= (1 + WITHIN) * sound
