# SPDX-License-Identifier: Apache-2.0
"""Gradient health for PyTorch Lightning: see gradients, catch them exploding or vanishing, say why, act.

Names are imported on first use: TensorBoard imports this package for its plugin, and needs neither torch nor Lightning.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_gradwatch.callbacks.clipper import AdaptiveClipper
    from lightning_gradwatch.callbacks.decay import LRDecay
    from lightning_gradwatch.callbacks.defaults import default_callbacks
    from lightning_gradwatch.callbacks.explosion import ExplosionDetector
    from lightning_gradwatch.callbacks.logger import GradientNormLogger
    from lightning_gradwatch.callbacks.rewind import Rewind
    from lightning_gradwatch.callbacks.vanishing import VanishingDetector
    from lightning_gradwatch.errors import GradientExplosionError, GradwatchError, VanishingGradientError
    from lightning_gradwatch.events import EventKind, GradientEvent, Remedy, Severity
    from lightning_gradwatch.laws import NormClip, PercentileClip, UnitwiseClip, ValueClip, ZScoreClip
    from lightning_gradwatch.measure import measure
    from lightning_gradwatch.snapshot import GradientSnapshot

__version__ = "0.1.0"

_HOME = {
    "AdaptiveClipper": "callbacks.clipper",
    "EventKind": "events",
    "ExplosionDetector": "callbacks.explosion",
    "GradientEvent": "events",
    "GradientExplosionError": "errors",
    "GradientNormLogger": "callbacks.logger",
    "GradientSnapshot": "snapshot",
    "GradwatchError": "errors",
    "LRDecay": "callbacks.decay",
    "NormClip": "laws",
    "PercentileClip": "laws",
    "Remedy": "events",
    "Rewind": "callbacks.rewind",
    "Severity": "events",
    "UnitwiseClip": "laws",
    "ValueClip": "laws",
    "VanishingDetector": "callbacks.vanishing",
    "VanishingGradientError": "errors",
    "ZScoreClip": "laws",
    "default_callbacks": "callbacks.defaults",
    "measure": "measure",
}

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
    "Rewind",
    "Severity",
    "UnitwiseClip",
    "ValueClip",
    "VanishingDetector",
    "VanishingGradientError",
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


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # Importing the module `measure` binds it to this name, which belongs to the function.
        super().__setattr__(name, getattr(value, name) if isinstance(value, ModuleType) and name in _HOME else value)


sys.modules[__name__].__class__ = _Package
