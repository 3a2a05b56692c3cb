# SPDX-License-Identifier: Apache-2.0
"""Healthy runs: more losses and rewards."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    ctc_loss,
    normalize,
    one_hot,
    poisson_nll_loss,
)

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, healthy
from benchmarks.listed.second.nets import Tagger
from benchmarks.listed.second.tasks import Bootstrapped, Distilled, Penalised, Proximal
from benchmarks.listed.tasks import Run, Scored, adam, digits, fit, sgd


def rare() -> Run:
    """One digit against the rest, one positive in fifty; focal loss (Lin et al., 2017)."""
    x, y = data.standard("digits")
    few = torch.cat([(y != 3).nonzero()[:, 0], (y == 3).nonzero()[:33, 0]])
    batches = data.batches((x[few], (y[few] == 3).float()[:, None]), 250)
    return fit(nets.mlp(64, 48, 1), batches, adam(3e-3), focal)


def focal(out: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy that forgets what is already sure."""
    loss = binary_cross_entropy_with_logits(out, y, reduction="none")
    return ((1 - (-loss).exp()).square() * loss).mean()


def mixed() -> Run:
    """Mixtures of two digits, with the mixture of their labels."""
    batches = []
    for x, y in data.digits(250):
        share = torch.distributions.Beta(0.4, 0.4).sample((len(x), 1))
        labels, order = one_hot(y, 10).float(), torch.randperm(len(x))
        batches.append((share * x + (1 - share) * x[order], share * labels + (1 - share) * labels[order]))
    return fit(nets.small(), batches, adam(3e-3))


def spoken() -> Run:
    """Three symbols in twelve noisy frames, not aligned: connectionist temporal classification."""
    batches = []
    for _ in range(200):
        y = torch.randint(1, 5, (32, 3))
        x = 0.1 * torch.randn(32, 12, 5)
        x[:, 2::4] += one_hot(y, 5)
        batches.append((x, y))
    return fit(Tagger(5, 5), batches, adam(5e-3), unaligned)


def unaligned(out: Tensor, y: Tensor) -> Tensor:
    """CTC over frames [T, B, symbols] for symbols [B, 3]."""
    frames, size = out.shape[:2]
    return ctc_loss(out, y, torch.full((size,), frames), torch.full((size,), y.shape[1]))


def two_views(out: Tensor, y: Tensor) -> Tensor:
    """Each half of the batch must find its other half among all (InfoNCE, temperature 0.1)."""
    one, two = normalize(out).chunk(2)
    return cross_entropy(one @ two.T / 0.1, torch.arange(len(one)))


def views() -> Run:
    """Each digit twice, under noise."""
    batches = [(torch.cat([x + 0.5 * torch.randn_like(x) for _ in range(2)]), y) for x, y in data.digits()]
    return fit(nets.mlp(64, 64, 32), batches, adam(), two_views)


def pinball(out: Tensor, y: Tensor) -> Tensor:
    """The quantiles at 10, 50 and 90 per cent: gradients of constant size."""
    levels = torch.tensor([0.1, 0.5, 0.9])
    return torch.maximum(levels * (y - out), (levels - 1) * (y - out)).mean()


def counts() -> Run:
    """Counts up to some dozens, by the logarithm of their rate."""
    x = torch.randn(250, 64, 8)
    rate = (1.0 + x[..., :3].sum(-1, keepdim=True) * 0.5).exp()
    return fit(nets.mlp(8, 32, 1), list(zip(x, torch.poisson(rate), strict=True)), adam(3e-3), poisson_nll_loss)


def offset() -> Run:
    """A constant is part of the loss."""
    return Run(Scored(nets.small(), lambda out, y: cross_entropy(out, y) + 1000.0, adam()), data.digits(), {})


def memorised() -> Run:
    """Sixty-four digits with the labels of others, learnt by heart."""
    x, y = data.standard("digits")
    return fit(nets.mlp(64, 256, 10), [(x[:64], y[:64][torch.randperm(64)])] * 200, adam(3e-3))


def weighted(out: Tensor, y: Tensor) -> Tensor:
    """Ten yes-or-no questions; each yes counts fifty times."""
    return binary_cross_entropy_with_logits(out, one_hot(y, 10).float(), pos_weight=torch.tensor(50.0))


CASES = (
    healthy("focal_loss_one_in_fifty", TUNING, "the loss is tiny and falls by orders of magnitude", rare),
    healthy("mixup", REPORTING, "a high floor", mixed),
    healthy("ctc", TUNING, "a plateau on which only the blank is predicted", spoken),
    healthy(
        "proximal_policy",
        REPORTING,
        "four steps per batch, clipped ratios",
        lambda: Run(Proximal(), data.digits(150), {}),
    ),
    healthy(
        "distillation",
        TUNING,
        "a frozen teacher in the module",
        lambda: Run(Distilled(data.digits()), data.digits(), {}),
    ),
    healthy("info_nce", REPORTING, "a low temperature", views),
    healthy(
        "pinball",
        TUNING,
        "gradients of constant size",
        lambda: fit(nets.mlp(10, 32, 3), data.diabetes(), adam(3e-3), pinball),
    ),
    healthy("poisson_counts", REPORTING, "an exponential in the loss; a loss below zero", counts),
    healthy("loss_plus_1000", TUNING, "progress is tiny beside the constant", offset),
    healthy("random_labels_by_heart", REPORTING, "nothing to learn but the labels", memorised),
    healthy("positives_x50", TUNING, "large and rare gradients", lambda: digits(loss=weighted, optimizer=sgd(0.05))),
    healthy(
        "bootstrapped_targets",
        REPORTING,
        "a target that moves and has no gradient",
        lambda: Run(Bootstrapped(), data.digits(), {}),
    ),
    healthy(
        "gradient_penalty",
        TUNING,
        "the backward pass is differentiated",
        lambda: Run(Penalised(nets.mlp(64, 64, 64, 10, act=nn.Tanh), cross_entropy, adam(3e-3)), data.digits(), {}),
    ),
)
