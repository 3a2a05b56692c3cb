# SPDX-License-Identifier: Apache-2.0
"""The public API as a user's type checker sees it. Read by mypy, never run."""

from __future__ import annotations

import pytorch_lightning as pl
from torch import nn

from lightning_gradwatch import (
    AdaptiveClipper,
    EventKind,
    ExplosionDetector,
    GradientEvent,
    GradientExplosionError,
    GradientNormLogger,
    GradientSnapshot,
    GradwatchError,
    LRDecay,
    NormClip,
    PercentileClip,
    Remedy,
    Severity,
    UnitwiseClip,
    ValueClip,
    VanishingDetector,
    VanishingGradientError,
    ZClip,
    __version__,
    default_callbacks,
    measure,
)

callbacks: list[pl.Callback] = [
    GradientNormLogger(every_n_steps=10, max_layers=8, prog_bar=True, include="net.*", exclude=["*.bias"], name="a"),
    ExplosionDetector(action="clip", nonfinite="stop", max_norm=10, patience=3, ignore=["spike"], monitor="loss"),
    VanishingDetector(action="abort", min_norm=1e-8, diagnose=False),
    AdaptiveClipper("percentile", per="group", max_skips=5),
    LRDecay(gamma=0.98, every=100, on=("nonfinite",), backoff=0.5),
]
trainer = pl.Trainer(callbacks=callbacks)
lazy = pl.Trainer(callbacks=default_callbacks(rescue=True))
laws: list[AdaptiveClipper] = [
    AdaptiveClipper(law)
    for law in (NormClip(1.0), ValueClip(1.0), PercentileClip(), ZClip(), UnitwiseClip(clipping=0.1))
]

ExplosionDetector(action="explode")  # type: ignore[arg-type]
ExplosionDetector("warn")  # type: ignore[call-arg]
AdaptiveClipper("nope")  # type: ignore[arg-type]
LRDecay(every="fortnight")  # type: ignore[arg-type]

detector = ExplosionDetector()
events: list[GradientEvent] = detector.events
tripped: GradientEvent | None = detector.tripped
version: str = __version__


def react(event: GradientEvent) -> str:
    """A user's own reaction."""
    if event.kind is EventKind.SPIKE and event.severity is Severity.ALARM:
        first: Remedy = event.remedies[0]
        return f"{first.id}: {event.value / event.limit:.1f} in {event.layers[0]}, {event.cause or ''}"
    return event.action_taken


def fit(module: pl.LightningModule) -> GradientEvent | None:
    """What ended the run."""
    try:
        trainer.fit(module)
    except (GradientExplosionError, VanishingGradientError) as error:
        return error.event
    except GradwatchError:
        return None
    return detector.tripped


def total(net: nn.Module) -> float:
    """Without Lightning."""
    snapshot: GradientSnapshot = measure(net, loss=1.0)
    return snapshot.total
