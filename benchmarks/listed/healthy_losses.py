# SPDX-License-Identifier: Apache-2.0
"""Healthy runs with odd losses: tiny, huge, exactly zero, noisy, or none that falls."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import StudentT
from torch.nn.functional import cross_entropy, huber_loss, mse_loss, multi_margin_loss, triplet_margin_loss

from benchmarks.listed import data, nets, parts
from benchmarks.listed.case import REPORTING, TUNING, healthy
from benchmarks.listed.special import Adversarial, MeanTeacher, Reinforce
from benchmarks.listed.tasks import Run, adam, digits, fit, sgd, times


def cloud() -> Run:
    """Points around (2, 1), to be imitated from noise."""
    real = torch.tensor([2.0, 1.0]) + 0.5 * torch.randn(250, 64, 2)
    return Run(Adversarial(), [(points, torch.randn(64, 4)) for points in real], {})


def hinge(out: Tensor, y: Tensor) -> Tensor:
    """A class against all others; exactly zero once all margins are met."""
    return multi_margin_loss(out, y, margin=0.3)


def triplet(out: Tensor, y: Tensor) -> Tensor:
    """Each sample against the mean of its class and one of another; most triplets are soon satisfied."""
    means = torch.stack([out[y == c].mean(0) if (y == c).any() else out[0] for c in range(10)])
    other = (y[None] != y[:, None]).float().argmax(1)
    return triplet_margin_loss(out, means[y], out[other], margin=0.1)


def mislabel(y: Tensor) -> Tensor:
    """Half of the labels at random."""
    return y.where(torch.rand(len(y)) < 0.5, torch.randint(10, (len(y),)))


def heavy_tails() -> Run:
    """A regression with outliers in the targets."""
    x, y = data.standard("diabetes")
    noise = 0.3 * StudentT(1.5).sample(y.shape)
    return fit(nets.mlp(10, 32, 1), data.batches((x, y + noise), 250), adam(3e-3), huber_loss)


def denoiser() -> Run:
    """Digits under noise of very different strength."""
    batches = [(x + torch.rand(len(x), 1).pow(4) * 5 * torch.randn_like(x), x) for x, _ in data.digits()]
    return fit(nets.mlp(64, 96, 64), batches, adam(3e-3), mse_loss)


def overfitted(net: nn.Module, few: int) -> Run:
    """A few samples, known by heart before the run begins."""
    x, y = data.standard("digits")
    some = (x[:few], y[:few])
    return fit(parts.pretrained(net, data.batches(some)), data.batches(some), adam())


def fine_tuned() -> Run:
    """A tiny learning rate on what is already learnt."""
    batches = data.digits(400)
    return fit(parts.pretrained(nets.small(), batches[:150]), batches[150:], adam(1e-6))


def separable() -> Run:
    """Two classes that a line separates."""
    x, y = data.standard("iris")
    return fit(nn.Linear(4, 2), data.batches((x, (y > 0).long()), 250), sgd(1.0))


CASES = (
    healthy("gan", TUNING, "two optimizers, no loss that falls", cloud),
    healthy("mean_teacher", TUNING, "a copy that never gets a gradient", lambda: Run(MeanTeacher(), data.digits(), {})),
    healthy(
        "reinforce", REPORTING, "a loss around zero and pure noise", lambda: Run(Reinforce(), data.digits(300), {})
    ),
    healthy("fine_tuned_lr_1e-6", TUNING, "nearly nothing moves, on purpose", fine_tuned, below=0.5),
    healthy("converged", REPORTING, "the gradient is nearly zero", lambda: overfitted(nets.small(), 40), below=0.1),
    healthy(
        "overfitted_wide", TUNING, "the loss goes to zero", lambda: overfitted(nets.mlp(64, 256, 10), 20), below=0.1
    ),
    healthy("separable_logistic", REPORTING, "the weights grow for ever", separable),
    healthy("hinge_with_exact_zeros", TUNING, "steps without any gradient", lambda: digits(loss=hinge)),
    healthy(
        "triplet_with_exact_zeros",
        REPORTING,
        "steps without any gradient",
        lambda: digits(nets.mlp(64, 64, 16), loss=triplet),
    ),
    healthy(
        "loss_x1e-6_adam",
        TUNING,
        "all norms are tiny; Adam does not mind",
        lambda: digits(optimizer=adam(eps=1e-14), loss=times(1e-6)),
    ),
    healthy("loss_x1e6_adam", REPORTING, "all norms are huge; Adam does not mind", lambda: digits(loss=times(1e6))),
    healthy(
        "sum_reduction",
        TUNING,
        "norms grow with the batch",
        lambda: digits(optimizer=sgd(1e-3), loss=lambda out, y: cross_entropy(out, y, reduction="sum")),
    ),
    healthy("noisy_labels_50", REPORTING, "half of the labels are wrong", lambda: digits(steps=300, y=mislabel)),
    healthy("student_t_huber", TUNING, "outliers", heavy_tails),
    healthy("denoiser", REPORTING, "the noise level varies by orders of magnitude", denoiser),
    healthy("contrastive_temperature", TUNING, "large gradients", lambda: digits(parts.Prototypes())),
)
