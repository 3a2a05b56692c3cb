# SPDX-License-Identifier: Apache-2.0
"""Runs in half precision that overflow or underflow."""

from __future__ import annotations

import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from benchmarks.listed import nets
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.sick_nonfinite import log_zero
from benchmarks.listed.tasks import digits, sgd, times
from lightning_gradwatch.events import EventKind as K

STUCK = {K.SCALER_STUCK, K.NONFINITE}
ROUNDED = {K.DEAD, K.STALLED, K.VANISHING, K.NOT_UPDATED, K.DISCONNECTED}


def fp16(init_scale: float = 2.0**16, backoff_factor: float = 0.5, growth_interval: int = 2000) -> MixedPrecision:
    """fp16 with a GradScaler on the CPU: ``precision="16-mixed"`` alone would silently become bfloat16 there."""
    scaler = torch.amp.GradScaler("cpu", init_scale, backoff_factor=backoff_factor, growth_interval=growth_interval)
    return MixedPrecision("16-mixed", "cpu", scaler)


CASES = (
    sick(
        "fp16_activations_overflow",
        TUNING,
        STUCK,
        lambda: digits(optimizer=sgd(0.1), x=lambda x: 1e5 * x, plugins=[fp16()]),
    ),
    sick(
        "fp16_scale_does_not_fall",
        REPORTING,
        STUCK,
        lambda: digits(plugins=[fp16(init_scale=2.0**40, backoff_factor=0.999)]),
    ),
    sick("fp16_nan_in_the_loss", TUNING, STUCK, lambda: digits(loss=log_zero, plugins=[fp16()])),
    sick(
        "fp16_without_scaler_underflow",
        REPORTING,
        ROUNDED,
        lambda: digits(nets.small().half(), sgd(0.1), x=Tensor.half, loss=times(1e-6)),
    ),
    sick(
        "bfloat16_rounds_updates_away",
        REPORTING,
        {K.NOT_UPDATED, K.STALLED},
        lambda: digits(nets.small().bfloat16(), sgd(1e-9), x=Tensor.bfloat16),
        fault=("not updated", "net.[024].weight"),
    ),
)
