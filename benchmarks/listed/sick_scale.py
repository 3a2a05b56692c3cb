# SPDX-License-Identifier: Apache-2.0
"""Runs that blow up by what they start from: data in odd units, weights that are too large, too many layers."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.sick_rates import TOO_LARGE
from benchmarks.listed.tasks import diabetes, digits, fit, sgd
from lightning_gradwatch.events import EventKind as K

LN10 = 2.3  # the loss of the best constant answer


def raw(name: str) -> list[data.Batch]:
    """A data set as it comes, in its own units."""
    x, y = data.table(name)
    return data.batches((x, y.float()[:, None] if name == "diabetes" else y), 150)


def exponential() -> nn.Module:
    """Exp as activation."""
    return nets.mlp(64, 64, 64, 64, 10, act=lambda: nets.Lambda(torch.exp))


CASES = (
    sick(
        "inputs_x300",
        REPORTING,
        TOO_LARGE,
        lambda: digits(optimizer=sgd(0.1), x=lambda x: 300 * x),
        chance=LN10,
    ),
    sick("raw_wine", TUNING, TOO_LARGE, lambda: fit(nets.mlp(13, 32, 32, 3), raw("wine"), sgd(0.05)), chance=1.08),
    sick(
        "targets_x1000",
        REPORTING,
        TOO_LARGE,
        lambda: diabetes(nets.mlp(10, 32, 32, 1), sgd(0.05), y=lambda y: 1e3 * y),
    ),
    sick(
        "raw_targets",
        TUNING,
        TOO_LARGE,
        lambda: fit(nets.mlp(10, 32, 32, 1), raw("diabetes"), sgd(0.1), nn.functional.mse_loss),
        chance=5.9e3,
    ),
    sick(
        "one_batch_x1e6",
        REPORTING,
        TOO_LARGE,
        lambda: digits(optimizer=sgd(0.2), steps=250, at=150, x=lambda x: x.flip(0) * 1e6),
        onset=150,
    ),
    sick(
        "deep_tanh_gain_5",
        TUNING,
        TOO_LARGE,
        lambda: digits(nets.init(nets.mlp(*nets.DEEP, act=nn.Tanh), nets.xavier(5.0)), sgd(0.1)),
        chance=LN10,
    ),
    sick(
        "deep_relu_twice_he",
        REPORTING,
        TOO_LARGE,
        lambda: digits(nets.init(nets.mlp(*nets.DEEP), nets.he(2.0)), sgd(0.01)),
    ),
    sick(
        "relu_x4_ten_layers",
        TUNING,
        TOO_LARGE,
        lambda: digits(nets.init(nets.mlp(64, *[48] * 10, 10), nets.he(4.0)), sgd(0.01)),
        chance=LN10,
    ),
    sick(
        "residual_40_without_norm",
        REPORTING,
        TOO_LARGE,
        lambda: digits(nets.init(nets.residual(40, norm=False), nets.he()), sgd(0.01), steps=150),
    ),
    sick(
        "batchnorm_50_without_skips",
        TUNING,
        TOO_LARGE | {K.VANISHING},
        lambda: digits(nets.mlp(64, *[24] * 50, 10, norm=nn.BatchNorm1d), sgd(0.02), steps=150),
    ),
    sick("exponential_activation", TUNING, TOO_LARGE, lambda: digits(exponential(), sgd(0.1))),
    sick(
        "deep_linear_large",
        REPORTING,
        TOO_LARGE,
        lambda: digits(nets.init(nets.mlp(*nets.DEEP, act=nn.Identity), nets.xavier(1.6)), sgd(0.01)),
    ),
)
