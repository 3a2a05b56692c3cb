# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - optimizers' groups
"""Runs that blow up or turn into NaN, by more causes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, poisson_nll_loss
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.listed import data, nets, sequences
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.second.healthy_networks import evidence
from benchmarks.listed.second.nets import Attention, Tagger, Variational
from benchmarks.listed.second.tasks import ByHand, Rewarded
from benchmarks.listed.sick_half import STUCK, fp16
from benchmarks.listed.sick_nonfinite import NAN
from benchmarks.listed.sick_rates import BLOW_UP, TOO_LARGE
from benchmarks.listed.sick_time import GROWS
from benchmarks.listed.tasks import Run, adam, diabetes, digits, fit, sgd


def never_cleared(optimizer: Any, backward: Callable[[], None]) -> None:
    """`zero_grad` was forgotten: each step repeats all earlier gradients."""
    backward()
    optimizer.step()


def hot_head(net: nn.Module) -> Optimizer:
    """The last layer has a group of its own, with a rate that is far too high."""
    *body, head = net.children()
    rest = [p for layer in body for p in layer.parameters()]
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": head.parameters(), "lr": 5.0}]
    return torch.optim.SGD(groups, lr=0.05)


def momentum_ramp(optimizer: Optimizer) -> LambdaLR:
    """A schedule of the momentum that passes 1."""

    def at(step: int) -> float:
        for group in optimizer.param_groups:
            group["momentum"] = 0.5 + 0.006 * step
        return 1.0

    return LambdaLR(optimizer, at)


def missing_values() -> Run:
    """A table in which one column has gaps."""
    x, y = data.standard("wine")
    x = x.clone()
    x[::9, 4] = torch.nan
    return fit(nets.mlp(13, 32, 3), data.batches((x, y), 150, 16), adam())


def impossible(out: Tensor, y: Tensor) -> Tensor:
    """CTC of labels that are longer than the input: no path, an infinite loss."""
    return ctc_loss(out, y, torch.full((len(y),), len(out)), torch.full((len(y),), y.shape[1]))


def too_short() -> Run:
    """Four frames for five labels, from batch 50 on."""
    batches = [(torch.randn(16, 4 if i >= 50 else 12, 5), torch.randint(1, 5, (16, 5))) for i in range(120)]
    return fit(Tagger(5, 5), batches, adam(), impossible)


def no_eps() -> nn.Module:
    """Normalisation without its epsilon."""
    return nn.Sequential(nn.Linear(64, 64, bias=False), nn.LayerNorm(64, eps=0.0), nn.ReLU(), nn.Linear(64, 10))


def large_counts() -> Run:
    """The logarithm of a rate from features of order 100."""
    x = 100 * torch.randn(100, 64, 8)
    return fit(nets.mlp(8, 32, 1), [(b, torch.poisson(b[:, :1].abs())) for b in x], sgd(0.01), poisson_nll_loss)


def echoing() -> nn.Module:
    """A ReLU RNN with a recurrent matrix of norm 1.8."""
    return sequences.rnn(nn.RNN, (8, 32, 10), sequences.spectral(1.8), nonlinearity="relu")


CASES = (
    sick(
        "zero_grad_forgotten",
        REPORTING,
        TOO_LARGE,
        lambda: Run(ByHand(nets.small(), never_cleared, 0.5), data.digits(), {}),
    ),
    sick("one_group_too_fast", TUNING, TOO_LARGE, lambda: diabetes(nets.mlp(10, 32, 32, 1), hot_head)),
    sick(
        "momentum_passes_1",
        REPORTING,
        TOO_LARGE,
        lambda: digits(optimizer=sgd(0.1, momentum=0.5), schedule=momentum_ramp),
        onset=50,
    ),
    sick("table_with_gaps", TUNING, NAN, missing_values),
    sick(
        "fp16_overflow_from_100_on",
        REPORTING,
        STUCK,
        lambda: digits(at=slice(100, None), x=lambda x: 1e6 * x, plugins=[fp16()]),
        onset=100,
    ),
    sick("fp16_attention_overflow", TUNING, STUCK, lambda: digits(Attention(1e6), plugins=[fp16()])),
    sick(
        "fp16_hidden_overflow",
        REPORTING,
        STUCK,
        lambda: digits(nets.init(nets.mlp(64, 64, 64, 64, 10), nets.normal(10.0)), plugins=[fp16()]),
    ),
    sick("ctc_without_a_path", TUNING, NAN, too_short, onset=50),
    sick("layernorm_without_eps", REPORTING, NAN, lambda: digits(no_eps(), at=60, x=torch.zeros_like), onset=60),
    sick("poisson_of_large_features", TUNING, BLOW_UP, large_counts),
    sick(
        "relu_rnn_gain_18",
        REPORTING,
        GROWS,
        lambda: fit(echoing(), data.padded_digits(40), sgd(0.01)),
        layer="net.rnn",
        chance=2.3,
    ),
    sick(
        "elbo_sum_sgd",
        TUNING,
        BLOW_UP,
        lambda: fit(Variational(), [(x, x) for x, _ in data.digits()], sgd(0.3), evidence),
    ),
    sick(
        "one_target_x1e6",
        REPORTING,
        TOO_LARGE,
        lambda: diabetes(nets.mlp(10, 32, 32, 1), sgd(0.05), at=100, y=lambda y: 1e6 * y.abs()),
        onset=100,
    ),
    sick("rewards_x1e4", TUNING, TOO_LARGE, lambda: Run(Rewarded(1e4), data.digits(), {})),
    sick(
        "adam_lr_30_cnn",
        REPORTING,
        TOO_LARGE,
        lambda: fit(nets.cnn(norm=False), data.images(150), adam(30.0)),
        chance=2.3,
    ),
)
