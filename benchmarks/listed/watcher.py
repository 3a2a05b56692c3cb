# SPDX-License-Identifier: Apache-2.0
"""What is measured: the detectors at their defaults."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_gradwatch import ExplosionDetector, GradientEvent, GradientNormLogger, VanishingDetector

KEPT = ("kind", "severity", "step", "layers", "value", "limit", "message", "cause", "action_taken")


def detectors() -> list[Callback]:
    """One of each, at its defaults, and the logger that users run beside them."""
    return [GradientNormLogger(), ExplosionDetector(), VanishingDetector()]


class Listener(Callback):
    """Keeps all events, by the public way to hear them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def on_gradient_event(self, trainer: Trainer, pl_module: LightningModule, event: GradientEvent) -> None:
        """Keeps what the tables and a reader of the raw results need."""
        whole = event.to_dict()
        self.events.append({key: whole[key] for key in KEPT})
