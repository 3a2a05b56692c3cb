# SPDX-License-Identifier: Apache-2.0
"""Runs that start badly: data in its own units, weights that are too large, no normalisation, half precision."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import mse_loss
from typing_extensions import override

from benchmarks.listed import data, nets, sequences
from benchmarks.listed.case import REPORTING, TUNING
from benchmarks.listed.sick_half import fp16
from benchmarks.listed.sick_time import relu
from benchmarks.listed.tasks import MakeOptimizer, Run, adam, digits, fit, sgd
from benchmarks.rescue.pair import pair
from benchmarks.rescue.rates import momentum

RAW = "raw"


class Units(nn.Module):
    """Column by column to other units."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def raw_inputs(name: str, optimizer: MakeOptimizer, times: float = 1.0) -> Callable[[str], Run]:
    """Features as they come, or standardised by the first layer."""
    x, y = data.table(name)
    x = x * times

    def make(units: str) -> Run:
        first = [] if units == RAW else [Units(1 / x.std(0), -x.mean(0) / x.std(0))]
        net = nn.Sequential(*first, nets.mlp(x.shape[1], 32, 32, int(y.max()) + 1))
        return fit(net, data.batches((x, y)), optimizer)

    return make


def raw_targets(optimizer: MakeOptimizer, times: float = 1.0) -> Callable[[str], Run]:
    """A target as it comes, or brought to its units by the last layer."""
    x, y = data.standard("diabetes")[0], data.table("diabetes")[1].float()[:, None] * times

    def make(units: str) -> Run:
        last = [] if units == RAW else [Units(y.std(0), y.mean(0))]
        loss = mse_loss if units == RAW else lambda out, y_: mse_loss(out, y_) / y.var()
        return fit(nn.Sequential(nets.mlp(10, 32, 32, 1), *last), data.batches((x, y)), optimizer, loss)

    return make


def weights(depth: int, optimizer: MakeOptimizer) -> Callable[[nets.Fill], Run]:
    """A perceptron with `depth` layers of 64 units."""
    return lambda fill: digits(nets.init(nets.mlp(*[64] * depth, 10), fill), optimizer, steps=300)


def recurrent(batches: Callable[[], list[data.Batch]], sizes: tuple[int, int, int]) -> Callable[[float], Run]:
    """A ReLU RNN whose matrix is the identity times a gain."""
    return lambda gain: fit(relu(gain, sizes), batches(), sgd(3e-3))


class NoNorm(nn.Identity):
    """In the place of a LayerNorm; the encoder asks for its eps."""

    eps = 0.0


def no_norm(depth: int, optimizer: Callable[[float], MakeOptimizer]) -> Callable[[float], Run]:
    """A transformer without normalisation."""

    def make(lr: float) -> Run:
        net = sequences.Characters(depth=depth)
        for layer in net.encoder.layers:
            layer.norm1, layer.norm2 = NoNorm(), NoNorm()
        return fit(net, data.text(200), optimizer(lr))

    return make


def half(net: Callable[[], nn.Module], batches: Callable[[], list[data.Batch]]) -> Callable[[float], Run]:
    """In half precision, whose scaler gives way to single overflows, but not to weights that grow."""
    return lambda lr: fit(net(), batches(), momentum(lr), plugins=[fp16()])


PAIRS = (
    pair("raw_wine", TUNING, raw_inputs("wine", sgd(0.05)), sick=RAW, sound="standardised"),
    pair("raw_breast_cancer", REPORTING, raw_inputs("breast_cancer", momentum(0.05)), sick=RAW, sound="standardised"),
    pair("raw_digits_x1e3", TUNING, lambda s: digits(optimizer=sgd(0.1), x=lambda x: x * s), sick=1e3, sound=1.0),
    pair("raw_targets", REPORTING, raw_targets(sgd(0.1)), sick=RAW, sound="standardised"),
    pair("raw_targets_momentum", TUNING, raw_targets(momentum(0.02)), sick=RAW, sound="standardised"),
    pair("normal_init_4_layers", TUNING, weights(4, sgd(0.1)), sick=nets.normal(1.0), sound=nets.he()),
    pair("normal_init_8_layers", REPORTING, weights(8, momentum(0.01)), sick=nets.normal(1.0), sound=nets.he()),
    pair("normal_init_6_layers_adam", TUNING, weights(6, adam(1e-3)), sick=nets.normal(1.0), sound=nets.he()),
    pair("deep_12_twice_he", REPORTING, weights(12, sgd(0.05)), sick=nets.he(2.0), sound=nets.he()),
    pair("rnn_gain_15_recall", TUNING, recurrent(lambda: data.recall(20, steps=400), (4, 32, 4)), sick=1.5, sound=1.0),
    pair(
        "rnn_gain_13_digits",
        REPORTING,
        recurrent(lambda: data.padded_digits(32, 400), (8, 32, 10)),
        sick=1.3,
        sound=1.0,
    ),
    pair("no_norm_transformer_sgd", REPORTING, no_norm(3, momentum), sick=3.0, sound=0.05),
    pair("no_norm_transformer_adam", TUNING, no_norm(3, adam), sick=0.03, sound=1e-3),
    pair("fp16_mlp", TUNING, half(nets.small, data.digits), sick=3.0, sound=0.05),
    pair("fp16_cnn", REPORTING, half(lambda: nets.cnn(norm=False), data.images), sick=3.0, sound=0.03),
)
