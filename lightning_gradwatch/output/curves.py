# SPDX-License-Identifier: Apache-2.0
"""What `GradientNormLogger` shows of one step, as numbers by stem of their tag."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_gradwatch.output.merging import Merging
from lightning_gradwatch.rules import depth_factor, speed_spread
from lightning_gradwatch.snapshot import Floats, GradientSnapshot, ParameterInfo, by_layer


def headline(
    snapshot: GradientSnapshot, total_clipped: float, moved: Floats | None, weights: Floats | None
) -> dict[str, float]:
    """The values that are no layer's.

    Args:
        snapshot: The gradients.
        total_clipped: L2 norm after clipping.
        moved: [P] norms of the weight change, NaN where not measured; None if nowhere.
        weights: [P] norms of the weights before, likewise.
    """
    ratios = _layer_ratios(snapshot.layout, moved, weights)
    values = {
        "grad_norm/total": snapshot.total,
        "grad_norm/total_clipped": total_clipped,
        "grad_max/total": snapshot.max_abs,
        "grad_depth/factor": depth_factor(snapshot),
        "grad_depth/speed_spread": None if ratios is None else speed_spread(ratios),
    }
    return {stem: value for stem, value in values.items() if value is not None}


def per_layer(
    layout: ParameterInfo, merging: Merging, norms: Floats, moved: Floats | None, weights: Floats | None
) -> dict[str, float]:
    """The values of each layer, or of layers merged; without those that were not measured.

    Args:
        layout: Of the parameters to show.
        merging: Which line each of its layers belongs to.
        norms: [P] norms of the gradients.
        moved: [P] as above.
        weights: [P] as above.
    """
    values = _by_name("grad_norm", merging, merging.norms(by_layer(layout, norms)))
    if moved is None or weights is None:
        return values
    change, size = merging.norms(by_layer(layout, moved)), merging.norms(by_layer(layout, weights))
    measured = {"weight_norm": size, "grad_update_ratio": _ratios(change, size)}
    found = {tag: value for stem, line in measured.items() for tag, value in _by_name(stem, merging, line).items()}
    return values | {tag: value for tag, value in found.items() if not np.isnan(value)}


def step_of(snapshot: GradientSnapshot, moved: Floats | None, weights: Floats | None) -> dict[str, Any]:
    """The step as the TensorBoard plugin wants it, with all layers; arguments as above."""
    return {
        "step": snapshot.log_step,
        "layers": snapshot.layout.layers,
        "norms": snapshot.layer_norms,
        "update_ratios": _layer_ratios(snapshot.layout, moved, weights),
        "total": snapshot.total,
        "max_abs": snapshot.max_abs,
        "depth_factor": depth_factor(snapshot),
    }


def _by_name(stem: str, merging: Merging, values: Floats) -> dict[str, float]:
    return {f"{stem}/{name}": value for name, value in zip(merging.names, values.tolist(), strict=True)}


def _layer_ratios(layout: ParameterInfo, moved: Floats | None, weights: Floats | None) -> Floats | None:
    return None if moved is None or weights is None else _ratios(by_layer(layout, moved), by_layer(layout, weights))


def _ratios(moved: Floats, weights: Floats) -> Floats:
    """Relative updates; NaN where the weights were all zero or nothing was measured."""
    return np.divide(moved, weights, out=np.full_like(moved, np.nan), where=weights > 0)
