# SPDX-License-Identifier: Apache-2.0
"""Learning rates that are too high, from the start or later."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.listed import data, nets, sequences
from benchmarks.listed.case import REPORTING, TUNING
from benchmarks.listed.tasks import MakeOptimizer, Run, adam, digits, factor, fit, sgd
from benchmarks.rescue.pair import pair

momentum = partial(sgd, momentum=0.9)
heavy = partial(sgd, momentum=0.99)
Make = Callable[[float], Run]


def cnn(optimizer: Callable[[float], MakeOptimizer]) -> Make:
    """Convolutions without normalisation, on images."""
    return lambda lr: fit(nets.cnn(norm=False), data.images(), optimizer(lr))


def lstm(optimizer: Callable[[float], MakeOptimizer]) -> Make:
    """Digits row by row."""
    return lambda lr: fit(sequences.rnn(nn.LSTM, (8, 32, 10)), data.padded_digits(8, 250), optimizer(lr))


def transformer(optimizer: Callable[[float], MakeOptimizer]) -> Make:
    """Characters of a real text."""
    return lambda lr: fit(sequences.Characters(), data.text(250), optimizer(lr))


def ramp(optimizer: MakeOptimizer) -> Make:
    """The learning rate is multiplied at each step."""
    return lambda growth: digits(optimizer=optimizer, steps=300, schedule=factor(lambda i: growth**i))


def typo(optimizer: MakeOptimizer) -> Make:
    """The learning rate jumps in the middle."""
    return lambda jump: digits(optimizer=optimizer, steps=300, schedule=factor(lambda i: 1.0 if i < 120 else jump))


def one_cycle(peak: float) -> Run:
    """Up to the peak and down to nothing."""

    def schedule(optimizer: Optimizer) -> OneCycleLR:
        return OneCycleLR(optimizer, max_lr=peak, total_steps=201)

    return digits(optimizer=sgd(0.1), schedule=schedule)


PAIRS = (
    pair("mlp_sgd_20", TUNING, lambda lr: digits(optimizer=sgd(lr)), sick=20.0, sound=0.3),
    pair("mlp_momentum_3", REPORTING, lambda lr: digits(optimizer=momentum(lr)), sick=3.0, sound=0.05),
    pair("mlp_momentum_99_lr_1", TUNING, lambda lr: digits(optimizer=heavy(lr), steps=300), sick=1.0, sound=0.01),
    pair("mlp_adam_1", REPORTING, lambda lr: digits(optimizer=adam(lr)), sick=1.0, sound=3e-3),
    pair("cnn_sgd_5", REPORTING, cnn(sgd), sick=5.0, sound=0.1),
    pair("cnn_adam_03", TUNING, cnn(adam), sick=0.3, sound=3e-3),
    pair("lstm_sgd_100", TUNING, lstm(sgd), sick=100.0, sound=1.0),
    pair("lstm_adam_1", REPORTING, lstm(adam), sick=1.0, sound=1e-2),
    pair("transformer_momentum_5", REPORTING, transformer(momentum), sick=5.0, sound=0.05),
    pair("transformer_adam_05", TUNING, transformer(adam), sick=0.5, sound=5e-3),
    pair("rate_ramp_momentum", REPORTING, ramp(momentum(0.05)), sick=1.03, sound=1.0),
    pair("rate_ramp_adam", TUNING, ramp(adam(1e-3)), sick=1.03, sound=1.0),
    pair("rate_typo_momentum", TUNING, typo(momentum(0.02)), sick=1e3, sound=1.0),
    pair("rate_typo_adam", REPORTING, typo(adam(1e-3)), sick=1e3, sound=1.0),
    pair("one_cycle_50", REPORTING, one_cycle, sick=50.0, sound=0.1),
)
