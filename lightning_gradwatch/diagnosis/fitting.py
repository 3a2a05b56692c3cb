# SPDX-License-Identifier: Apache-2.0
"""Advice that fits: nothing that the module already has, and nothing that the evidence speaks against."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_gradwatch.diagnosis.evidence import Evidence
from lightning_gradwatch.diagnosis.history import History
from lightning_gradwatch.events import Remedy

_CALM = 0.01
"""Relative update per step up to which nothing speaks against the learning rate; 1e-3 is usual."""


def fitting(found: Sequence[Remedy], evidence: Evidence, history: History) -> tuple[Remedy, ...]:
    """Those remedies that are left; all of them where none would be."""
    setup = evidence.setup
    rectified = setup.rectified or any(one.function == "relu" for one in evidence.activations)
    saturating = any(one.function in ("tanh", "sigmoid") for one in evidence.activations)
    calm = history.fastest is not None and history.fastest[1] <= _CALM
    has = {
        "ReLU or GELU": rectified and not saturating,
        "residual connections and normalisation": setup.normalised and evidence.residual,
        "residual connections, normalised after the addition": setup.normalised and evidence.residual,
        "LayerNorm": setup.normalised,
        "LayerNorm or BatchNorm": setup.normalised,
        "LSTM or GRU": setup.gated,
        "leave the learning rate as it is": not calm,
    }
    return tuple(remedy for remedy in found if not has.get(remedy.text)) or tuple(found)
