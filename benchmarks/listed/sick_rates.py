# SPDX-License-Identifier: Apache-2.0
"""Runs that blow up by the optimizer's settings: rates, signs, sums."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.listed import data, nets, sequences
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.tasks import Run, Scored, adam, diabetes, digits, factor, fit, sgd, times
from lightning_gradwatch.events import EventKind as K

BLOW_UP = {K.EXPLOSION, K.UPDATE_TOO_LARGE, K.NONFINITE, K.SPIKE}
# A step that is far too large saturates or kills units at once; either finding is right.
TOO_LARGE = BLOW_UP | {K.SATURATED, K.DEAD}


def rmsprop(net: nn.Module) -> torch.optim.Optimizer:
    """Four orders of magnitude above the usual rate."""
    return torch.optim.RMSprop(net.parameters(), 3.0)


def flipped() -> Run:
    """The sign of the loss is wrong; the label asks the right one."""
    return Run(Scored(nets.small(), times(-1.0), sgd(0.5)), data.digits(), {})


def rewarded() -> Run:
    """The penalty on the weights has the wrong sign."""
    net = nets.small()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(out, y) - 0.05 * torch.stack([p.square().sum() for p in net.parameters()]).sum()

    return Run(Scored(net, loss, sgd(0.3)), data.digits(), {})


def one_cycle(optimizer: torch.optim.Optimizer) -> OneCycleLR:
    """A peak that is a hundred times too high."""
    return OneCycleLR(optimizer, max_lr=50.0, total_steps=201)


CASES = (
    sick("sgd_lr_20", TUNING, TOO_LARGE, lambda: digits(optimizer=sgd(20.0))),
    sick(
        "momentum_lr_1_regression",
        REPORTING,
        TOO_LARGE,
        lambda: diabetes(nets.mlp(10, 32, 32, 1), sgd(1.0, momentum=0.9)),
    ),
    sick("adam_lr_1", TUNING, TOO_LARGE, lambda: digits(nets.mlp(64, 64, 64, 64, 10), adam(1.0))),
    sick("rmsprop_lr_3", REPORTING, TOO_LARGE, lambda: digits(optimizer=rmsprop)),
    sick("lr_past_stability_regression", TUNING, BLOW_UP, lambda: diabetes(nn.Linear(10, 1), sgd(0.6))),
    sick(
        "lr_grows_each_step",
        REPORTING,
        TOO_LARGE,
        lambda: digits(optimizer=sgd(0.05, momentum=0.9), steps=300, schedule=factor(lambda i: 1.03**i)),
        onset=60,
    ),
    sick(
        "lr_typo_in_schedule",
        TUNING,
        TOO_LARGE,
        lambda: digits(optimizer=sgd(0.1), schedule=factor(lambda i: 1.0 if i < 120 else 1e3)),
        onset=120,
    ),
    sick("one_cycle_far_too_high", REPORTING, TOO_LARGE, lambda: digits(optimizer=sgd(0.1), schedule=one_cycle)),
    sick(
        "sum_with_the_lr_of_mean",
        TUNING,
        TOO_LARGE,
        lambda: digits(optimizer=sgd(0.5), loss=times(64.0)),
        chance=147.0,
    ),
    sick("sign_flipped", REPORTING, BLOW_UP, flipped),
    sick("penalty_with_wrong_sign", TUNING, BLOW_UP, rewarded),
    sick(
        "post_norm_without_warm_up",
        REPORTING,
        TOO_LARGE | {K.VANISHING, K.STALLED},
        lambda: fit(sequences.Characters(depth=4, norm_first=False), data.text(), adam(0.03)),
    ),
)
