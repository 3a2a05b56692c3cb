# SPDX-License-Identifier: Apache-2.0
"""Healthy runs: the usual networks on the usual data."""

from __future__ import annotations

from torch import nn
from torch.nn.functional import binary_cross_entropy, mse_loss

from benchmarks.listed import data, nets, sequences
from benchmarks.listed.case import REPORTING, TUNING, healthy
from benchmarks.listed.tasks import Run, adam, diabetes, digits, fit, sgd

COMMON = "the usual"
THROUGH_TIME = "the gradient through time starts tiny"


def deep_selu() -> nn.Module:
    """Fifteen layers with LeCun's initialisation."""
    net = nets.mlp(64, *[32] * 15, 10, act=nn.SELU)
    return nets.init(net, lambda w: nn.init.normal_(w, 0.0, w.shape[1] ** -0.5))


def probability() -> Run:
    """A sigmoid as output, and binary cross-entropy."""
    net = nn.Sequential(nets.mlp(30, 32, 1), nn.Sigmoid(), nn.Flatten(0))
    batches = [(x, y.float()) for x, y in data.batches(data.standard("breast_cancer"))]
    return fit(net, batches, adam(1e-2), binary_cross_entropy)


def autoencoder() -> Run:
    """Digits through a bottleneck of eight numbers."""
    return fit(nets.mlp(64, 32, 8, 32, 64), [(x, x) for x, _ in data.digits()], adam(3e-3), mse_loss)


def recurrent(kind: nets.Module, clip: float | None = None) -> Run:
    """Digits row by row, and as many silent steps again."""
    return fit(sequences.rnn(kind, (8, 48, 10)), data.padded_digits(16, 200), adam(5e-3), gradient_clip_val=clip)


def orthogonal() -> Run:
    """A tanh RNN that preserves the gradient."""
    net = sequences.rnn(nn.RNN, (4, 48, 4), sequences.spectral(1.0))
    return fit(net, data.recall(30, steps=200), adam())


CASES = (
    healthy("mlp_adam", TUNING, COMMON, digits),
    healthy("mlp_sgd", REPORTING, COMMON, lambda: digits(optimizer=sgd(0.1))),
    healthy("residual_with_norm", REPORTING, COMMON, lambda: digits(nets.residual(6))),
    healthy(
        "tanh_xavier",
        TUNING,
        COMMON,
        lambda: digits(nets.init(nets.mlp(*nets.DIGITS, act=nn.Tanh), nets.xavier()), sgd(0.1)),
    ),
    healthy(
        "relu_he_12_layers",
        REPORTING,
        "deep, but soundly initialised",
        lambda: digits(nets.init(nets.mlp(64, *[48] * 12, 10), nets.he())),
    ),
    healthy(
        "sigmoid_with_batchnorm",
        TUNING,
        "saturating units that are kept in range; biases without effect",
        lambda: digits(nets.mlp(64, 48, 48, 48, 10, act=nn.Sigmoid, norm=nn.BatchNorm1d), adam(1e-2)),
    ),
    healthy("selu_15_layers", REPORTING, "deep and without normalisation", lambda: digits(deep_selu())),
    healthy(
        "logistic_iris",
        TUNING,
        "one layer",
        lambda: fit(nn.Linear(4, 3), data.batches(data.standard("iris")), sgd(0.5)),
    ),
    healthy("linear_regression", REPORTING, "one layer; a high floor", lambda: diabetes(nn.Linear(10, 1), sgd(0.05))),
    healthy(
        "gelu_wine",
        TUNING,
        "a tiny data set",
        lambda: fit(nets.mlp(13, 32, 3, act=nn.GELU), data.batches(data.standard("wine"), size=16), adam(1e-2)),
    ),
    healthy("sigmoid_output_bce", REPORTING, "the output saturates, as it should", probability),
    healthy("cnn_batchnorm", TUNING, COMMON, lambda: fit(nets.cnn(), data.images(150), adam(3e-3))),
    healthy(
        "cnn_dropout",
        REPORTING,
        "noisy gradients",
        lambda: fit(nets.cnn(norm=False, drop=0.5), data.images(150), adam(3e-3)),
    ),
    healthy("lstm_digits", TUNING, THROUGH_TIME, lambda: recurrent(nn.LSTM)),
    healthy("gru_with_clipping", REPORTING, THROUGH_TIME, lambda: recurrent(nn.GRU, clip=1.0)),
    healthy("orthogonal_rnn_recall", TUNING, "the gradient through time grows", orthogonal),
    healthy("transformer_text", REPORTING, COMMON, lambda: fit(sequences.Characters(), data.text(), adam(3e-3))),
    healthy(
        "tied_weights",
        TUNING,
        "one matrix at both ends",
        lambda: fit(sequences.Characters(tied=True), data.text(), adam(3e-3)),
    ),
    healthy("autoencoder", TUNING, "a bottleneck", autoencoder),
)
