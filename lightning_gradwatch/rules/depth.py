# SPDX-License-Identifier: Apache-2.0
"""The gradient over depth: what layers nearer the input get of it.

Depth is the order of registration. M = matrices (parameters of two or more dimensions) that take part.
"""

from __future__ import annotations

from math import inf, log

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.rules.text import number
from lightning_gradwatch.snapshot import Floats, GradientSnapshot

_OWN_SHARE = 0.5  # of a change, in logarithms, that the gradients must make for the sentence to speak of them

Indices = NDArray[np.intp]


def sensitivities(snapshot: GradientSnapshot) -> tuple[Indices, Floats]:
    """Indices [M] of the matrices that take part, first layer first, and their s [M].

    s = norm of the gradient times norm of the weights: the change of the loss per relative change of a matrix. It
    does not see how the scale of the weights is spread over the layers, and is flat over depth in a sound net. A
    matrix whose gradient or weights are exactly 0 (idle expert, zero-initialised branch) does not take part.
    Source: for homogeneous nets Du, Hu & Lee 2018, arXiv 1806.00900.
    """
    if snapshot.weight_norms is None:
        return np.zeros(0, dtype=np.intp), np.zeros(0)
    s = snapshot.norms * snapshot.weight_norms
    chosen = np.flatnonzero(snapshot.layout.matrix & (s > 0) & (s < inf))
    return chosen, s[chosen]


def depth_factor(snapshot: GradientSnapshot) -> float | None:
    """Growth of the gradient's norm per layer, from output to input: the geometric mean over layers that own a matrix.

    A chain of sigmoid units leaves at most 0.25 with weights of 1. None with fewer than two such layers.
    """
    norms = snapshot.norms
    layers = _layers(snapshot, np.flatnonzero(snapshot.layout.matrix & (norms > 0) & (norms < inf)))
    return _per_layer(snapshot, layers[-1], layers[0], len(layers) - 1) if len(layers) > 1 else None


def speed_spread(ratios: Floats) -> float | None:
    """How many times faster the fastest moves than the slowest.

    Args:
        ratios: Relative updates of layers or of parameters, any number of them. NaN and 0 are left out.

    Returns:
        At least 1, or None if nothing moves.
    """
    moving = ratios[(ratios > 0) & (ratios < inf)]
    return float(moving.max() / moving.min()) if len(moving) else None


def account(snapshot: GradientSnapshot, chosen: Indices, s: Floats, start: int, end: int) -> str:
    """What becomes of the gradient between two of the matrices that take part, in words.

    Args:
        snapshot: This step.
        chosen: Indices [M] of the matrices.
        s: Their sensitivities [M].
        start: Number in [0, M) of the matrix to start from.
        end: Number in [0, M) of the matrix to end at.
    """
    source, target = (int(snapshot.layout.layer_of[chosen[i]]) for i in (start, end))
    between = _layers(snapshot, chosen[min(start, end) : max(start, end) + 1])
    factor = _per_layer(snapshot, source, target, max(1, len(between) - 1))
    names, norms = snapshot.layout.layers, snapshot.layer_norms
    change = float(s[end] / s[start])
    norm_change = float(norms[target] / norms[source])
    # Where the weights differ more than the gradients, these alone hide it.
    if change in (0.0, 1.0) or norm_change <= 0 or log(norm_change) / log(change) < _OWN_SHARE:
        return f"the loss responds {number(change)} times as much to {names[target]} as to {names[source]}"
    verb = "grows" if factor > 1 else "shrinks"
    ends = [f"{names[i]} ({number(norms[i])})" for i in (source, target)]
    return f"gradient {verb} x{number(factor)} per layer from {' to '.join(ends)}"


def layers_of(snapshot: GradientSnapshot, parameters: Indices) -> list[str]:
    """The layers that own some parameters, in the order of these, each once."""
    return list(dict.fromkeys(snapshot.layout.layer(int(i)) for i in parameters))


def _layers(snapshot: GradientSnapshot, parameters: Indices) -> list[int]:
    """Indices of the layers that own some parameters, first layer first."""
    return [int(layer) for layer in np.unique(snapshot.layout.layer_of[parameters])]


def _per_layer(snapshot: GradientSnapshot, source: int, target: int, steps: int) -> float:
    # The product of the factors between neighbours is the quotient of the ends.
    norms = snapshot.layer_norms
    return float((norms[target] / norms[source]) ** (1 / steps))
