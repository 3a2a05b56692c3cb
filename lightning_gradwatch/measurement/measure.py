# SPDX-License-Identifier: Apache-2.0
"""Gradients in, numbers out, without a Trainer."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from lightning_gradwatch.measurement.meter import Meter, to_host
from lightning_gradwatch.snapshot import GradientSnapshot


def measure(
    parameters: nn.Module | Iterable[tuple[str, Tensor]],
    *,
    scale: float | Tensor | None = None,
    max_abs: bool = True,
    weights: bool = True,
    step: int = 0,
    lr: float | None = None,
    loss: float | None = None,
) -> GradientSnapshot:
    """Measures the gradients that lie in ``p.grad``. Waits for the device.

    Under a sharded strategy all ranks must call it together; the result is the same on all of them.

    Args:
        parameters: A module, or pairs of name and parameter.
        scale: What the gradients are still multiplied by, such as ``scaler.get_scale()`` before ``scaler.unscale_()``.
        max_abs: Whether to find the largest absolute entry.
        weights: Whether to take the norms of the weights, which the rules about depth need.
        step: Optimizer steps done before this one.
        lr: Learning rate in force; the rule about stalled training asks for it.
        loss: This step's loss; the detectors ask it whether training makes progress.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> layer(torch.tensor([[3.0, 4.0]])).sum().backward()
        >>> measure(layer).total
        5.0
    """
    meter = Meter(parameters.named_parameters() if isinstance(parameters, nn.Module) else parameters)
    reading = meter.read(scale=scale, max_abs=max_abs)
    snapshot = GradientSnapshot(
        layout=meter.layout,
        norms=to_host(reading.norms),
        present=to_host(reading.present) > 0,
        max_abs=None if reading.max_abs is None else float(reading.max_abs),
        weight_norms=to_host(meter.weight_norms()) if weights else None,
        step=step,
        lr=lr,
        loss=loss,
    )
    return meter.confirm(snapshot, reading, scale)
