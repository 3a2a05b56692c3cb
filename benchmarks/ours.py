# SPDX-License-Identifier: Apache-2.0
"""Our callbacks as the benchmarks run them."""

from __future__ import annotations

from pytorch_lightning import Callback

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector


def five() -> list[Callback]:
    """All callbacks at their defaults."""
    return [GradientNormLogger(), ExplosionDetector(), VanishingDetector(), AdaptiveClipper(), LRDecay()]
