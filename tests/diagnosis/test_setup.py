# SPDX-License-Identifier: Apache-2.0
"""How a model is built and trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lightning_gradwatch.diagnosis import Setup, read_setup
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo


def read(module=None, groups=(), clip=None, norm=2.0, **fields):
    layout = ParameterInfo(("a.weight",), ((10, 10),))
    snapshot = GradientSnapshot(layout, np.array([norm]), np.array([True]), **fields)
    return read_setup(module or nn.Linear(2, 2), snapshot, groups, clip)


def test_a_plain_layer_has_nothing_to_tell():
    assert read(step=7) == Setup(normalised=False, step=7)


def test_layers_that_normalise_and_where():
    assert read(nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))).normalised
    layers = {first: nn.TransformerEncoderLayer(4, 1, 4, norm_first=first) for first in (True, False)}
    assert {first: read(layer).post_norm for first, layer in layers.items()} == {True: False, False: True}


def test_half_precision_counts_without_a_scaler_only():
    half = nn.Linear(2, 2).half()
    assert read(half).unscaled_half
    assert not read(half, loss_scale=1024.0).unscaled_half
    assert not read(nn.Linear(2, 2).bfloat16()).unscaled_half


@pytest.mark.parametrize(
    ("optimizer", "decay"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.5), 0.05),
        (lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5), 0.05),
        (lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.5), 0.0),
        (lambda p: torch.optim.SGD([{"params": p, "lr": 0.2}], lr=0.1, weight_decay=0.5), 0.1),
    ],
    ids=["sgd", "adamw", "adam", "group"],
)
def test_the_weight_decay_is_what_it_takes_per_step(optimizer, decay):
    groups = optimizer(nn.Linear(2, 2).parameters()).param_groups
    assert read(groups=groups).decay == pytest.approx(decay)


def test_how_far_the_norm_is_above_what_clipping_lets_pass():
    assert read(clip=("norm", 0.5)).clipped == 4.0
    assert read(clip=("value", 0.01)).clipped == pytest.approx(20.0)  # at most 0.01 x sqrt(100) passes
    assert read().clipped == 0.0
