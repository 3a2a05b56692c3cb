# SPDX-License-Identifier: Apache-2.0
"""Gradient health for PyTorch Lightning: see gradients, catch them exploding or vanishing, say why, act."""

from lightning_gradwatch.callbacks.clipper import AdaptiveClipper
from lightning_gradwatch.callbacks.decay import LRDecay
from lightning_gradwatch.callbacks.explosion import ExplosionDetector
from lightning_gradwatch.callbacks.logger import GradientNormLogger
from lightning_gradwatch.callbacks.vanishing import VanishingDetector
from lightning_gradwatch.errors import GradientExplosionError, GradwatchError, VanishingGradientError
from lightning_gradwatch.events import EventKind, GradientEvent, Remedy, Severity
from lightning_gradwatch.laws import NormClip, PercentileClip, UnitwiseClip, ValueClip, ZScoreClip
from lightning_gradwatch.measure import measure
from lightning_gradwatch.snapshot import GradientSnapshot

__version__ = "0.1.0"

__all__ = [
    "AdaptiveClipper",
    "EventKind",
    "ExplosionDetector",
    "GradientEvent",
    "GradientExplosionError",
    "GradientNormLogger",
    "GradientSnapshot",
    "GradwatchError",
    "LRDecay",
    "NormClip",
    "PercentileClip",
    "Remedy",
    "Severity",
    "UnitwiseClip",
    "ValueClip",
    "VanishingDetector",
    "VanishingGradientError",
    "ZScoreClip",
    "__version__",
    "measure",
]
