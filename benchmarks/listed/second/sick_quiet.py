# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - Lightning's optimizers
"""Runs in which too little reaches the weights, by more causes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, cross_entropy, mse_loss, nll_loss
from typing_extensions import override

from benchmarks.listed import data, nets, sequences
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.second.nets import Attention
from benchmarks.listed.second.tasks import ByHand
from benchmarks.listed.sick_cut import CUT, KEPT
from benchmarks.listed.sick_still import STANDS
from benchmarks.listed.sick_time import FADES as FADES_IN_TIME
from benchmarks.listed.sick_vanishing import FADES, FRONT
from benchmarks.listed.tasks import Run, Scored, adam, digits, fit, sgd
from lightning_gradwatch.events import EventKind as K

# No gradient anywhere: each of these says so.
NOTHING = STANDS | CUT | FADES
FULL = {K.SATURATED, K.DEAD} | FADES


def cleared_too_late(optimizer: Any, backward: Callable[[], None]) -> None:
    """`zero_grad` between the backward pass and the step: there is nothing to step along."""
    backward()
    optimizer.zero_grad()
    optimizer.step()


def one_class() -> Run:
    """Softmax over a single output is always 1."""
    net = nn.Sequential(nets.mlp(30, 32, 1), nn.Softmax(1), nn.Flatten(0))
    batches = [(x, y.float()) for x, y in data.batches(data.standard("breast_cancer"))]
    return fit(net, batches, adam(), binary_cross_entropy)


def twice(out: Tensor, y: Tensor) -> Tensor:
    """Softmax of a softmax whose input is far from zero."""
    return cross_entropy((300 * out).softmax(1), y)


def clipped_log(out: Tensor, y: Tensor) -> Tensor:
    """The logarithm of probabilities that underflow and are clipped: no gradient."""
    return nll_loss((1e5 * out).softmax(1).clamp(min=1e-7).log(), y)


def number_only(out: Tensor, y: Tensor) -> Tensor:
    """A new tensor from the loss's value: the graph is lost."""
    return torch.tensor(float(cross_entropy(out, y)), requires_grad=True)


class Unrecorded(nn.Module):
    """A body that is called under `no_grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nets.mlp(64, 64, 64), nets.mlp(64, 32, 10)

    @override
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.body(x).relu()
        out: Tensor = self.head(hidden)
        return out


class CutAttention(Attention):
    """The keys are detached."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        rows = x.view(-1, 8, 8)
        share = (self.q(rows) @ self.k(rows).detach().transpose(1, 2) * self.scale).softmax(-1)
        out: Tensor = self.head((share @ self.v(rows)).mean(1))
        return out


def without_embedding(net: nn.Module) -> torch.optim.Optimizer:
    """The table was forgotten."""
    return torch.optim.Adam([p for name, p in net.named_parameters() if not name.startswith("embed")], 3e-3)


def conv_chain() -> nn.Module:
    """Twenty one-dimensional convolutions with tiny weights."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 64)), nn.Conv1d(1, 8, 3, padding=1), nn.ReLU()]
    for _ in range(19):
        layers += [nn.Conv1d(8, 8, 3, padding=1), nn.ReLU()]
    return nets.init(nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10)), nets.normal(0.02))


def raw_wine() -> Run:
    """Features up to 1,680 into tanh."""
    return fit(nets.mlp(13, 32, 32, 3, act=nn.Tanh), data.batches(data.table("wine"), 150), sgd(0.01))


def decayed(net: nn.Module) -> torch.optim.Optimizer:
    """Weight decay 30 with a rate of 0.01: a third of each weight per step."""
    return torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=30.0)


def remembering(radius: float, sizes: tuple[int, int, int]) -> nn.Module:
    """A tanh RNN whose recurrent matrix has the given spectral radius."""
    return sequences.rnn(nn.RNN, sizes, sequences.spectral(radius))


def overwriting() -> nn.Module:
    """A two-layer GRU whose update gates let nothing old pass."""
    net = sequences.rnn(nn.GRU, (4, 32, 4), num_layers=2)
    with torch.no_grad():
        for layer in (0, 1):
            net.rnn.get_parameter(f"bias_hh_l{layer}")[32:64] = -6.0
    return net


CASES = (
    sick("softmax_of_one_output", TUNING, NOTHING, one_class),
    sick(
        "zero_grad_before_step",
        REPORTING,
        NOTHING,
        lambda: Run(ByHand(nets.small(), cleared_too_late, 0.1), data.digits(), {}),
    ),
    sick(
        "double_softmax_saturated",
        TUNING,
        NOTHING | FULL,
        lambda: Run(Scored(nets.small(), twice, sgd(0.01)), data.digits(), {}),
        chance=2.3,
    ),
    sick(
        "log_of_clipped_zero",
        REPORTING,
        NOTHING | FULL,
        lambda: digits(loss=clipped_log, optimizer=sgd(1e-3)),
        chance=2.3,
    ),
    sick("loss_made_of_a_number", TUNING, NOTHING, lambda: digits(loss=number_only)),
    sick(
        "body_under_no_grad",
        REPORTING,
        CUT,
        lambda: digits(Unrecorded()),
        layer="net.body*",
        fault=("no gradient", "net.body.*"),
    ),
    sick("keys_detached", TUNING, CUT, lambda: digits(CutAttention()), layer="net.k", fault=("no gradient", "net.k.*")),
    sick(
        "embedding_not_in_optimizer",
        REPORTING,
        KEPT,
        lambda: fit(sequences.Characters(), data.text(), without_embedding),
        layer="net.embed",
        fault=("not updated", "net.embed.*"),
    ),
    sick("conv1d_20_small_normal", TUNING, FADES, lambda: digits(conv_chain(), sgd(0.1), steps=150), layer="net.[1-9]"),
    sick(
        "hardtanh_20_small_normal",
        REPORTING,
        FADES,
        lambda: digits(nets.init(nets.mlp(*nets.DEEP, act=nn.Hardtanh), nets.normal(0.03)), sgd(0.1)),
        layer=FRONT,
    ),
    sick("raw_features_into_tanh", TUNING, FULL, raw_wine, layer="net.0", chance=1.08),
    sick(
        "hardtanh_normal_3",
        REPORTING,
        FULL,
        lambda: digits(nets.init(nets.mlp(64, 64, 64, 64, 10, act=nn.Hardtanh), nets.normal(3.0)), sgd(1e-3)),
        layer="net.[024]",
        chance=2.3,
    ),
    sick(
        "adamw_decay_30", TUNING, NOTHING | {K.UPDATE_TOO_LARGE}, lambda: digits(nets.mlp(64, 64, 64, 64, 10), decayed)
    ),
    sick(
        "tanh_rho_04_adding_80",
        REPORTING,
        FADES_IN_TIME,
        lambda: fit(remembering(0.4, (2, 32, 1)), data.adding(80), adam(3e-3), mse_loss),
        layer="net.rnn",
        chance=0.17,
    ),
    sick(
        "lstm_recall_150",
        TUNING,
        FADES_IN_TIME,
        lambda: fit(sequences.rnn(nn.LSTM, (4, 32, 4)), data.recall(150, steps=120), adam()),
        layer="net.rnn",
    ),
    sick(
        "gru_that_overwrites_two_layers",
        REPORTING,
        FADES_IN_TIME,
        lambda: fit(overwriting(), data.recall(80), adam()),
        layer="net.rnn",
    ),
)
