# SPDX-License-Identifier: Apache-2.0
"""Gradient health for PyTorch Lightning: see gradients, catch them exploding or vanishing, say why, act.

Names are imported on first use: TensorBoard imports this package for its plugin, and needs neither torch nor Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_gradwatch.callbacks.adaptive_clipper import AdaptiveClipper
    from lightning_gradwatch.callbacks.defaults import default_callbacks
    from lightning_gradwatch.callbacks.explosion_detector import ExplosionDetector
    from lightning_gradwatch.callbacks.gradient_norm_logger import GradientNormLogger
    from lightning_gradwatch.callbacks.lr_decay import LRDecay
    from lightning_gradwatch.callbacks.rewind import Rewind
    from lightning_gradwatch.callbacks.vanishing_detector import VanishingDetector
    from lightning_gradwatch.errors import GradientExplosionError, GradwatchError, VanishingGradientError
    from lightning_gradwatch.events import EventKind, GradientEvent, Remedy, Severity
    from lightning_gradwatch.laws import AutoClip, NormClip, PercentileClip, UnitwiseClip, ValueClip, ZClip, ZScoreClip
    from lightning_gradwatch.measurement.measure import measure
    from lightning_gradwatch.snapshot import GradientSnapshot

__version__ = "0.1.0"

_HOME = {
    "AdaptiveClipper": "callbacks.adaptive_clipper",
    "AutoClip": "laws",
    "EventKind": "events",
    "ExplosionDetector": "callbacks.explosion_detector",
    "GradientEvent": "events",
    "GradientExplosionError": "errors",
    "GradientNormLogger": "callbacks.gradient_norm_logger",
    "GradientSnapshot": "snapshot",
    "GradwatchError": "errors",
    "LRDecay": "callbacks.lr_decay",
    "NormClip": "laws",
    "PercentileClip": "laws",
    "Remedy": "events",
    "Rewind": "callbacks.rewind",
    "Severity": "events",
    "UnitwiseClip": "laws",
    "ValueClip": "laws",
    "VanishingDetector": "callbacks.vanishing_detector",
    "VanishingGradientError": "errors",
    "ZClip": "laws",
    "ZScoreClip": "laws",
    "default_callbacks": "callbacks.defaults",
    "measure": "measurement.measure",
}

__all__ = [
    "AdaptiveClipper",
    "AutoClip",
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
    "Rewind",
    "Severity",
    "UnitwiseClip",
    "ValueClip",
    "VanishingDetector",
    "VanishingGradientError",
    "ZClip",
    "ZScoreClip",
    "__version__",
    "default_callbacks",
    "measure",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  each name has its type above
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
