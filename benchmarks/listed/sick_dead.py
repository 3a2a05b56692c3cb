# SPDX-License-Identifier: Apache-2.0
"""Runs with units that are dead or saturated."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.tasks import adam, digits, fit, sgd
from lightning_gradwatch.events import EventKind as K

DEAD = {K.DEAD}
FULL = {K.SATURATED}
HIDDEN = "net.[02]"


def biased(net: nn.Module, bias: float, only: str = "") -> nn.Module:
    """Biases so far below zero that no ReLU is ever active."""
    return nets.init(net, nets.he(0.5), bias, only)


def one_dead_layer() -> nn.Module:
    """A residual network with one block whose ReLUs are all silent."""
    return biased(nets.residual(3), -50.0, only="2.inner.1.bias")


def saturated(std: float) -> nn.Module:
    """Tanh units with N(0, std^2) weights, whatever the width."""
    return nets.init(nets.mlp(64, 64, 64, 64, 10, act=nn.Tanh), nets.normal(std))


def sigmoid(bias: float) -> nn.Module:
    """Sigmoid units that are all open."""
    return nets.init(nets.mlp(64, 64, 64, 10, act=nn.Sigmoid), nets.xavier(), bias)


CASES = (
    sick("relu_bias_-10", TUNING, DEAD, lambda: digits(biased(nets.small(), -10.0)), layer=HIDDEN),
    sick(
        "cnn_bias_-20",
        REPORTING,
        DEAD,
        lambda: fit(biased(nets.cnn(norm=False), -20.0, only="0."), data.images(), adam()),
        layer="net.0",
    ),
    sick(
        "one_dead_layer",
        TUNING,
        DEAD,
        lambda: digits(one_dead_layer()),
        layer="net.2.inner.[13]",
        fault=("no gradient", "net.2.inner.1.*"),
    ),
    sick(
        "relus_killed_by_one_batch",
        REPORTING,
        DEAD | {K.SPIKE, K.UPDATE_TOO_LARGE, K.EXPLOSION, K.NONFINITE},
        lambda: digits(nets.mlp(64, 64, 64, 10), sgd(0.05), steps=220, at=100, x=lambda x: x.abs() * 1e6),
        onset=100,
    ),
    sick(
        "all_zero_init",
        TUNING,
        DEAD | {K.VANISHING},
        lambda: digits(nets.init(nets.small(), nn.init.zeros_)),
        layer=HIDDEN,
    ),
    sick("all_zero_inputs", REPORTING, DEAD, lambda: digits(x=torch.zeros_like), layer="net.0"),
    sick("tanh_normal_2", TUNING, FULL, lambda: digits(saturated(2.0), sgd(0.01)), layer="net.[024]", chance=2.3),
    sick("tanh_normal_1", REPORTING, FULL, lambda: digits(saturated(1.0), sgd(1e-3)), layer="net.[024]", chance=2.3),
    sick(
        "inputs_x100_into_sigmoid",
        TUNING,
        FULL,
        lambda: digits(nets.mlp(*nets.DIGITS, act=nn.Sigmoid), sgd(0.01), x=lambda x: 100 * x),
        layer="net.0",
    ),
    sick("sigmoid_bias_20", REPORTING, FULL | {K.VANISHING}, lambda: digits(sigmoid(20.0), sgd(0.1)), layer=HIDDEN),
    sick(
        "images_divided_to_zero",
        TUNING,
        DEAD,
        lambda: fit(nets.cnn(norm=False), [((x / 255).long().float(), y) for x, y in data.images(150)], adam()),
        layer="net.0",
    ),
)
