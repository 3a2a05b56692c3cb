# SPDX-License-Identifier: Apache-2.0
"""`default_callbacks`, and those that `GRADWATCH=1` attaches."""

from __future__ import annotations

from lightning_gradwatch.arguments import flag
from lightning_gradwatch.callbacks.adaptive_clipper import AdaptiveClipper
from lightning_gradwatch.callbacks.explosion_detector import ExplosionDetector
from lightning_gradwatch.callbacks.gradient_norm_logger import GradientNormLogger
from lightning_gradwatch.callbacks.lr_decay import LRDecay
from lightning_gradwatch.callbacks.vanishing_detector import VanishingDetector
from lightning_gradwatch.compat.namespaces import LightningCallback


def default_callbacks(*, rescue: bool = False) -> list[LightningCallback]:
    """The callbacks for a run about which nothing special is known: ``Trainer(callbacks=default_callbacks())``.

    They are made afresh at each call. Add your own with ``[*default_callbacks(), ModelCheckpoint()]``.

    Args:
        rescue: False for curves, messages, and NaN and inf kept out of the weights, which changes nothing else. True
            adds `AdaptiveClipper` and `LRDecay`, which act when gradients or updates grow too large; leave
            ``gradient_clip_val`` of the Trainer out then.

    Returns:
        Callbacks of ``pytorch_lightning`` and of ``lightning.pytorch`` alike.

    Raises:
        TypeError: `rescue` is neither True nor False.

    Example:
        >>> [type(callback).__name__ for callback in default_callbacks()]
        ['GradientNormLogger', 'ExplosionDetector', 'VanishingDetector']
    """
    watching: list[LightningCallback] = [GradientNormLogger(), ExplosionDetector(), VanishingDetector()]
    return [*watching, AdaptiveClipper(), LRDecay()] if flag("rescue", rescue) else watching


def watchers() -> list[LightningCallback]:
    """Callbacks that change nothing at all."""
    return [GradientNormLogger(), ExplosionDetector(nonfinite="warn"), VanishingDetector()]
