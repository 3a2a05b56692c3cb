# SPDX-License-Identifier: Apache-2.0
"""How a model is built and trained, as far as a diagnosis asks, and the causes that lie there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import torch
from torch import nn

from lightning_gradwatch.diagnosis.cause import Cause
from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import GradientSnapshot

_UNDERFLOW, _POST_NORM, _DECAY, _CLIPPED = 14, 23, 24, 26  # rows of the table of remedies
_RECTIFIED = ("relu", "gelu", "silu", "swish", "mish", "elu", "transformerencoderlayer")
_MUCH_DECAY = 0.01  # of the weights per step; 1e-5 is usual
_MUCH_CLIPPED = 10.0  # times the limit
_HARDLY_MOVES = 1e-5  # relative update; 1e-3 is usual
_EARLY = 1000  # steps in which a warm-up is over


@dataclass(frozen=True, slots=True)
class Setup:
    """How a model is built and trained.

    Attributes:
        normalised: Whether there is any normalisation layer.
        rectified: Whether it has units such as ReLU, GELU or SiLU.
        gated: Whether it has an LSTM or a GRU.
        post_norm: Whether there are transformer layers that normalise after the addition.
        unscaled_half: Whether weights are in float16 and no GradScaler keeps small gradients above zero.
        decay: Share of the weights that the weight decay takes per step, the largest of the groups.
        clipped: Norm of the gradient over the largest that the Trainer's clipping lets pass; 0 without clipping.
        step: Optimizer steps done.
    """

    normalised: bool = True
    rectified: bool = False
    gated: bool = False
    post_norm: bool = False
    unscaled_half: bool = False
    decay: float = 0.0
    clipped: float = 0.0
    step: int = 0


def read_setup(
    module: nn.Module,
    snapshot: GradientSnapshot,
    groups: Iterable[Mapping[str, Any]],
    clip: tuple[str, float] | None,
) -> Setup:
    """How a model is built and trained.

    Args:
        module: The model.
        snapshot: A step of the optimizer.
        groups: The optimizer's parameter groups.
        clip: ``"norm"`` or ``"value"`` and the limit, if the Trainer clips.
    """
    parts = list(module.modules())
    half = any(p.dtype == torch.float16 for p in module.parameters())
    return Setup(
        normalised=any("norm" in type(part).__name__.lower() for part in parts),
        rectified=any(word in type(part).__name__.lower() for part in parts for word in _RECTIFIED),
        gated=any(isinstance(part, (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell)) for part in parts),
        post_norm=any(getattr(part, "norm_first", True) is False for part in parts),
        unscaled_half=half and snapshot.loss_scale is None,
        decay=max((_decay(group) for group in groups), default=0.0),
        clipped=_clipped(snapshot, clip),
        step=snapshot.step,
    )


def underflow(setup: Setup) -> Cause | None:
    """Weights in half precision, whose gradients are rounded to zero below 6e-8."""
    return (
        Cause("underflow: the weights are in float16, without a GradScaler", _UNDERFLOW)
        if setup.unscaled_half
        else None
    )


def decayed(setup: Setup) -> Cause | None:
    """A weight decay that outruns what is learnt."""
    if setup.decay <= _MUCH_DECAY:
        return None
    return Cause(f"the weight decay takes {setup.decay:.0%} of the weights per step".replace("%", " %"), _DECAY)


def clipped_away(setup: Setup, update: float | None) -> Cause | None:
    """A limit far below the usual norm, where hardly anything moves."""
    if setup.clipped <= _MUCH_CLIPPED or update is None or update > _HARDLY_MOVES:
        return None
    return Cause(f"the Trainer's clipping leaves 1/{number(setup.clipped)} of the gradient", _CLIPPED)


def no_warm_up(setup: Setup) -> Cause | None:
    """Transformers that normalise after the addition, in their first steps."""
    if not setup.post_norm or setup.step > _EARLY:
        return None
    return Cause("transformer layers that normalise after the addition, and no warm-up yet", _POST_NORM)


def _decay(group: Mapping[str, Any]) -> float:
    # Adam's own is no decay of the weights but a part of the gradient.
    coupled = "betas" in group and group.get("decoupled_weight_decay") is False
    return 0.0 if coupled else float(group.get("lr", 0.0)) * float(group.get("weight_decay", 0.0))


def _clipped(snapshot: GradientSnapshot, clip: tuple[str, float] | None) -> float:
    if clip is None:
        return 0.0
    algorithm, limit = clip
    largest = limit * (sqrt(snapshot.layout.numel.sum()) if algorithm == "value" else 1.0)
    return snapshot.total / largest if largest > 0 else inf
