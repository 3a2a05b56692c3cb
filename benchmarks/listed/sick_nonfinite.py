# SPDX-License-Identifier: Apache-2.0
"""Runs with NaN or inf: in the data, in the loss, in the backward pass only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, sick
from benchmarks.listed.tasks import adam, diabetes, digits, fit, sgd
from lightning_gradwatch.events import EventKind as K

NAN = {K.NONFINITE}


def spoilt(value: float) -> data.Change:
    """One entry of a batch is not a number."""

    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x[3, 5] = value
        return x

    return change


def log_zero(out: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy by hand: a probability that underflows has no logarithm."""
    return -(one_hot(y, 10) * (out * 1000).softmax(1).log()).sum(1).mean()


def where_nan(out: Tensor, y: Tensor) -> Tensor:
    """The branch not taken is the root of a negative number, whose gradient is NaN times zero."""
    return cross_entropy(torch.where(out > 0, out.sqrt(), 0.1 * out), y)


def distance(out: Tensor, y: Tensor) -> Tensor:
    """A Euclidean distance that is exactly zero has no gradient."""
    return cross_entropy(out, y) + 0.01 * (out - out.detach()).square().sum(1).sqrt().mean()


def angle(out: Tensor, y: Tensor) -> Tensor:
    """The angle between parallel vectors: the derivative of acos at 1 is infinite."""
    return cross_entropy(out, y) + 0.01 * cosine_similarity(out, 2 * out.detach()).acos().mean()


def masked_mean(out: Tensor, y: Tensor) -> Tensor:
    """The mean over a class that is missing from some batch."""
    losses = cross_entropy(out, y, reduction="none")
    return losses.mean() + 0.1 * losses[y == 3].mean()


def empty_penalty(out: Tensor, y: Tensor) -> Tensor:
    """A second term is the mean over nothing, from a batch on that has no nine."""
    return cross_entropy(out, y) + (y[y == 9] * 0.0).mean()


def standardised(x: Tensor) -> Tensor:
    """Some pixels are always zero: 0 / 0."""
    return (x - x.mean(0)) / (x - x[:1]).std(0)


def attention(x: Tensor) -> Tensor:
    """Weights over the places of an input; an input whose every place is masked has none."""
    masked = (x == x[0, 0]).all(1, keepdim=True)
    return x * x.masked_fill(masked, float("-inf")).softmax(1) * 64


def blank(x: Tensor) -> Tensor:
    """The first image is empty."""
    return torch.cat([x[:1, :1].expand(1, 64), x[1:]])


def around(
    before: Callable[[Tensor], Tensor] | None = None, after: Callable[[Tensor], Tensor] | None = None
) -> nn.Module:
    """The small network with a function of its input or output."""
    ends = [[nets.Lambda(function)] if function else [] for function in (before, after)]
    return nn.Sequential(*ends[0], nets.small(), *ends[1])


CASES = (
    sick("nan_in_one_batch", TUNING, NAN, lambda: digits(at=150, x=spoilt(torch.nan)), onset=150),
    sick("inf_in_one_batch", REPORTING, NAN, lambda: digits(optimizer=sgd(0.1), at=90, x=spoilt(torch.inf)), onset=90),
    sick(
        "nan_from_the_start",
        TUNING,
        NAN,
        lambda: fit(nets.cnn(), [(x.where(x < 1.5, torch.nan), y) for x, y in data.images()], adam()),
    ),
    sick(
        "nan_target",
        REPORTING,
        NAN,
        lambda: diabetes(nets.mlp(10, 32, 1), adam(), at=60, y=lambda y: y * torch.nan),
        onset=60,
    ),
    sick("log_of_zero", TUNING, NAN, lambda: digits(loss=log_zero)),
    sick("root_of_zero_gradient", REPORTING, NAN, lambda: digits(loss=distance)),
    sick("where_with_nan_branch", TUNING, NAN, lambda: digits(loss=where_nan)),
    sick("mean_of_an_empty_class", REPORTING, NAN, lambda: digits(size=24, loss=masked_mean)),
    sick("divided_by_zero_deviation", TUNING, NAN, lambda: digits(optimizer=sgd(0.1), x=standardised)),
    sick("fully_masked_attention", REPORTING, NAN, lambda: digits(around(before=attention), at=75, x=blank), onset=75),
    sick("exp_overflow", TUNING, NAN, lambda: digits(around(after=lambda out: (400 * out).exp()))),
    sick("angle_of_parallel_vectors", REPORTING, NAN, lambda: digits(loss=angle)),
    sick("empty_term_in_the_loss", TUNING, NAN, lambda: digits(size=16, loss=empty_penalty)),
)
