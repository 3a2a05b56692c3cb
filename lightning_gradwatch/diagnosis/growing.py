# SPDX-License-Identifier: Apache-2.0
"""Causes of gradients that are too large."""

from __future__ import annotations

from math import isfinite

from lightning_gradwatch.diagnosis.cause import Cause
from lightning_gradwatch.diagnosis.evidence import Evidence
from lightning_gradwatch.diagnosis.words import DEEP, growth
from lightning_gradwatch.rules.text import number

_PILES_UP = 100.0  # over all blocks
_GROWS = 1.5  # per layer; He's initialisation without a ReLU has 1.41
_FAST = 0.1  # relative update; 1e-3 is usual


def producer(evidence: Evidence) -> Cause | None:
    """The first layer that makes something that is not finite of something that is."""
    for scale in evidence.scales:
        if isfinite(scale.before) and not isfinite(scale.after):
            return Cause(
                f"the forward pass at {scale.layer}: finite in (rms {number(scale.before)}), not finite out",
                10,
                (scale.layer,),
            )
    return None


def growing(evidence: Evidence) -> Cause | None:
    """Each layer makes the signal larger."""
    factor = growth(evidence.scales)
    if factor is None or factor < _GROWS:
        return None
    without = "" if evidence.setup.normalised else "; no normalisation layer"
    return Cause(f"the signal grows x{number(factor)} per layer over {len(evidence.scales)} layers{without}", 21)


def variance(evidence: Evidence) -> Cause | None:
    """Each block adds to the signal, and nothing brings it back."""
    scales = [scale.before for scale in evidence.scales if isfinite(scale.before)]
    if not evidence.residual or evidence.setup.normalised or len(scales) < DEEP or not scales[0] > 0:
        return None
    grown = max(scales) / scales[0]
    if grown < _PILES_UP:
        return None
    return Cause(f"the signal grows x{number(grown)} along residual paths; no normalisation layer", 22)


def fast(evidence: Evidence) -> Cause | None:
    """The weights move too far per step."""
    if evidence.update is None or not evidence.update > _FAST:
        return None
    return Cause(f"the learning rate is too high: weights move by {number(evidence.update)} of their norm per step", 5)
