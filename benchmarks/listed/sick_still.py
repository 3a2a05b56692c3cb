# SPDX-License-Identifier: Apache-2.0
"""Runs that stand still: all updates are far too small."""

from __future__ import annotations

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.tasks import adam, digits, factor, fit, sgd, times
from lightning_gradwatch.events import EventKind as K

# An update below the resolution of float32 changes nothing at all; either finding is right.
STANDS = {K.STALLED, K.NOT_UPDATED}

CASES = (
    sick("lr_1e-9", TUNING, STANDS, lambda: digits(optimizer=adam(1e-9))),
    sick("lr_1e-8_sgd_cnn", REPORTING, STANDS, lambda: fit(nets.cnn(), data.images(), sgd(1e-8))),
    sick("loss_x1e-10", TUNING, STANDS, lambda: digits(optimizer=sgd(0.1), loss=times(1e-10))),
    sick("loss_x1e-14_adam", REPORTING, STANDS, lambda: digits(loss=times(1e-14))),
    sick("clipped_to_1e-7", TUNING, STANDS, lambda: digits(optimizer=sgd(0.1), gradient_clip_val=1e-7)),
    sick(
        "clipped_by_value_1e-9",
        REPORTING,
        STANDS,
        lambda: digits(optimizer=sgd(0.1), gradient_clip_val=1e-9, gradient_clip_algorithm="value"),
    ),
    sick(
        "lr_halves_each_step",
        TUNING,
        STANDS,
        lambda: digits(optimizer=sgd(0.005), schedule=factor(lambda i: 0.5**i)),
        onset=10,
    ),
    sick("warm_up_in_wrong_unit", REPORTING, STANDS, lambda: digits(schedule=factor(lambda i: i / 1e9))),
    sick("adam_eps_1e4", TUNING, STANDS, lambda: digits(optimizer=adam(eps=1e4))),
    sick(
        "weight_decay_1",
        REPORTING,
        STANDS | {K.VANISHING, K.DEAD},
        lambda: digits(nets.mlp(64, 64, 64, 64, 64, 10), sgd(0.1, weight_decay=1.0)),
    ),
)
