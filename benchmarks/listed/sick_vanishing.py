# SPDX-License-Identifier: Apache-2.0
"""Runs whose gradient vanishes through depth."""

from __future__ import annotations

from torch import nn

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.tasks import Run, adam, digits, fit, sgd
from lightning_gradwatch.events import EventKind as K

FADES = {K.VANISHING}
FRONT = "net.[0-9]"  # the first five of twenty layers, with the activations in between
FIFTEEN = (64, *[32] * 15, 10)


def deep(act: nets.Module, weight: nets.Fill | None = None, sizes: tuple[int, ...] = nets.DEEP) -> nn.Module:
    """Twenty layers, initialised by PyTorch or by `weight`."""
    net = nets.mlp(*sizes, act=act)
    return nets.init(net, weight) if weight else net


def deep_cnn() -> nn.Module:
    """Sixteen convolutions with a sigmoid each."""
    layers: list[nn.Module] = [nn.Conv2d(1, 8, 3, padding=1), nn.Sigmoid()]
    for _ in range(15):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def autoencoder() -> Run:
    """Six sigmoid layers down and six up again: the output's bias learns the mean image, nothing else does."""
    net = nets.mlp(64, 48, 32, 24, 16, 8, 4, 8, 16, 24, 32, 48, 64, act=nn.Sigmoid)
    return fit(net, [(x, x) for x, _ in data.digits()], sgd(0.1), nn.functional.mse_loss)


CASES = (
    sick("deep_sigmoid_sgd", TUNING, FADES, lambda: digits(deep(nn.Sigmoid), sgd(0.1)), layer=FRONT),
    sick("deep_sigmoid_adam", REPORTING, FADES, lambda: digits(deep(nn.Sigmoid)), layer=FRONT),
    sick(
        "deep_tanh_small_normal",
        TUNING,
        FADES,
        lambda: digits(deep(nn.Tanh, nets.normal(0.02)), sgd(0.1)),
        layer=FRONT,
    ),
    sick("deep_relu_small_normal", REPORTING, FADES, lambda: digits(deep(nn.ReLU, nets.normal(0.01))), layer=FRONT),
    sick(
        "deep_gelu_bert_init", TUNING, FADES, lambda: digits(deep(nn.GELU, nets.normal(0.02)), adam(1e-4)), layer=FRONT
    ),
    sick("deep_tanh_gain_03", REPORTING, FADES, lambda: digits(deep(nn.Tanh, nets.xavier(0.3)), sgd(0.1)), layer=FRONT),
    sick("deep_sigmoid_cnn", TUNING, FADES, lambda: fit(deep_cnn(), data.images(150, 32), sgd(0.1)), layer=FRONT),
    sick("deep_sigmoid_autoencoder", REPORTING, FADES, autoencoder, layer=FRONT, chance=0.52),
    sick(
        "sigmoid_15_xavier_momentum",
        TUNING,
        FADES,
        lambda: digits(deep(nn.Sigmoid, nets.xavier(), FIFTEEN), sgd(0.5, momentum=0.9)),
        layer=FRONT,
    ),
    sick(
        "deep_softsign_small",
        REPORTING,
        FADES,
        lambda: digits(deep(nn.Softsign, nets.normal(0.05)), sgd(0.1)),
        layer=FRONT,
    ),
    sick(
        "relu_10_default_init",
        TUNING,
        FADES,
        lambda: digits(nets.mlp(64, *[32] * 10, 10), sgd(0.05)),
        layer="net.[0-9]",
    ),
    sick(
        "tanh_16_default_init",
        TUNING,
        FADES,
        lambda: digits(nets.mlp(64, *[16] * 16, 10, act=nn.Tanh), sgd(0.05)),
        layer=FRONT,
    ),
)
