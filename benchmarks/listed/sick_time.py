# SPDX-License-Identifier: Apache-2.0
"""Recurrent runs whose gradient vanishes or explodes through time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import mse_loss

from benchmarks.listed import data, nets, sequences
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.tasks import adam, fit, sgd
from lightning_gradwatch.events import EventKind as K

FADES = {K.VANISHING_IN_TIME}
GROWS = {K.EXPLOSION, K.NONFINITE, K.UPDATE_TOO_LARGE, K.SPIKE, K.DEAD}
RNN = "net.rnn"
SYMBOLS = (4, 32, 4)
DIGITS = (8, 32, 10)


def tanh(radius: float, sizes: tuple[int, int, int] = SYMBOLS, layers: int = 1) -> nn.Module:
    """A tanh RNN whose recurrent matrix has the given spectral radius."""
    return sequences.rnn(nn.RNN, sizes, sequences.spectral(radius), num_layers=layers)


def relu(scale: float, sizes: tuple[int, int, int]) -> nn.Module:
    """A ReLU RNN whose recurrent matrix is the identity times `scale`."""
    return sequences.rnn(nn.RNN, sizes, lambda w: nn.init.eye_(w).mul_(scale), nonlinearity="relu")


def forgetful(kind: nets.Module, bias: float) -> nn.Module:
    """A gate is shut, so that the state is forgotten at every step: the LSTM's forget gate, the GRU's update gate."""
    net = sequences.rnn(kind, SYMBOLS)
    with torch.no_grad():
        net.rnn.get_parameter("bias_hh_l0")[32:64] = bias
    return net


CASES = (
    sick("tanh_rho_03_recall_80", TUNING, FADES, lambda: fit(tanh(0.3), data.recall(80), adam()), layer=RNN),
    sick("tanh_rho_05_recall_100", REPORTING, FADES, lambda: fit(tanh(0.5), data.recall(100), sgd(0.1)), layer=RNN),
    sick(
        "tanh_two_layers_recall_60", TUNING, FADES, lambda: fit(tanh(0.2, layers=2), data.recall(60), adam()), layer=RNN
    ),
    sick(
        "tanh_padded_digits",
        REPORTING,
        FADES,
        lambda: fit(tanh(0.4, DIGITS), data.padded_digits(70), adam()),
        layer=RNN,
    ),
    sick("lstm_that_forgets", TUNING, FADES, lambda: fit(forgetful(nn.LSTM, -4.0), data.recall(60), adam()), layer=RNN),
    sick(
        "gru_that_forgets", REPORTING, FADES, lambda: fit(forgetful(nn.GRU, -5.0), data.recall(60), adam()), layer=RNN
    ),
    sick("relu_15_identity", TUNING, GROWS, lambda: fit(relu(1.5, SYMBOLS), data.recall(80), sgd(0.01)), layer=RNN),
    sick(
        "relu_12_identity_adding",
        REPORTING,
        GROWS,
        lambda: fit(relu(1.2, (2, 32, 1)), data.adding(80), sgd(0.01), mse_loss),
        layer=RNN,
    ),
    sick(
        "tanh_rho_3_recall", TUNING, GROWS | {K.SATURATED}, lambda: fit(tanh(3.0), data.recall(60), sgd(0.1)), layer=RNN
    ),
    sick(
        "relu_13_padded_digits",
        REPORTING,
        GROWS,
        lambda: fit(relu(1.3, DIGITS), data.padded_digits(60), sgd(0.01)),
        layer=RNN,
        chance=2.3,
    ),
)
