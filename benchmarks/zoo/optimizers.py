# SPDX-License-Identifier: Apache-2.0
"""Optimizers with their schedules, each with the rate that suits it, relative to the family's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
from torch.optim import Optimizer

from benchmarks.zoo.core import Make, Params

Style = Literal["sgd", "adam"]


@dataclass(frozen=True)
class Setting:
    """One optimizer and schedule.

    Attributes:
        style: Whether a smaller gradient makes a smaller step ("sgd") or not ("adam"); names the family's rate.
        times: Its rate over the family's rate for that style.
        make: The optimizers of the parameters.
        schedule: The factor of the rate at a share of the run in [0, 1].
        several: Whether there is more than one optimizer.
    """

    style: Style
    times: float
    make: Make
    schedule: Callable[[float], float]
    several: bool = False


def _one(kind: Callable[..., Optimizer], **options: object) -> Make:
    return lambda params, rate: [kind([p for _, p in params], lr=rate, **options)]


def constant(share: float) -> float:
    """One rate."""
    return 1.0


def warm_cosine(share: float) -> float:
    """Up over the first tenth, then half a cosine down."""
    return min(1.0, (share + 0.005) / 0.1) * 0.5 * (1 + cos(pi * min(1.0, share)))


def cosine(share: float) -> float:
    """Half a cosine down."""
    return 0.5 * (1 + cos(pi * min(1.0, share)))


def one_cycle(share: float) -> float:
    """From a tenth up to the peak at a third, and down to nothing."""
    return 0.1 + 0.9 * share / 0.3 if share < 0.3 else max(0.0, (1 - share) / 0.7)


def muon(params: Params, rate: float) -> list[Optimizer]:
    """Muon for the hidden matrices, AdamW for all else, as its authors advise."""
    hidden = [p for n, p in params if p.ndim == 2 and not n.startswith(("embed", "head")) and min(p.shape) > 1]
    ids = set(map(id, hidden))
    others = [p for _, p in params if id(p) not in ids]
    made: list[Optimizer] = [torch.optim.Muon(hidden, lr=rate, adjust_lr_fn="match_rms_adamw")] if hidden else []
    return [*made, torch.optim.AdamW(others, lr=rate)] if others else made


SETTINGS: dict[str, Setting] = {
    "sgd": Setting("sgd", 1.0, _one(torch.optim.SGD), constant),
    "momentum": Setting("sgd", 0.2, _one(torch.optim.SGD, momentum=0.9), constant),
    "momentum_cosine": Setting("sgd", 0.2, _one(torch.optim.SGD, momentum=0.9, nesterov=True), cosine),
    "onecycle": Setting("sgd", 0.4, _one(torch.optim.SGD, momentum=0.9), one_cycle),
    "adam": Setting("adam", 1.0, _one(torch.optim.Adam), constant),
    "adamw_warm_cosine": Setting("adam", 2.0, _one(torch.optim.AdamW), warm_cosine),
    "adamw_beta95": Setting("adam", 1.0, _one(torch.optim.AdamW, betas=(0.9, 0.95), weight_decay=0.1), warm_cosine),
    "rmsprop": Setting("adam", 0.3, _one(torch.optim.RMSprop), constant),
    "adagrad": Setting("adam", 5.0, _one(torch.optim.Adagrad), constant),
    "nadam": Setting("adam", 1.0, _one(torch.optim.NAdam), constant),
    "radam": Setting("adam", 2.0, _one(torch.optim.RAdam), constant),
    "adafactor": Setting("adam", 3.0, _one(torch.optim.Adafactor), cosine),
    "muon": Setting("adam", 2.0, muon, warm_cosine, several=True),
}
