# SPDX-License-Identifier: Apache-2.0
"""Healthy runs: optimizers, schedules, batch sizes, precisions."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR, StepLR

from benchmarks.listed import data, nets
from benchmarks.listed.case import REPORTING, TUNING, healthy
from benchmarks.listed.sick_half import fp16
from benchmarks.listed.special import SharpnessAware
from benchmarks.listed.tasks import Run, adam, diabetes, digits, factor, fit, sgd


def rmsprop(net: nn.Module) -> Optimizer:
    """RMSprop at its usual rate."""
    return torch.optim.RMSprop(net.parameters(), 1e-3)


def adagrad(net: nn.Module) -> Optimizer:
    """Adagrad, whose rate only falls."""
    return torch.optim.Adagrad(net.parameters(), 0.03)


def searching(net: nn.Module) -> Optimizer:
    """LBFGS with its line search."""
    return torch.optim.LBFGS(net.parameters(), max_iter=3, line_search_fn="strong_wolfe")


def lbfgs() -> Run:
    """The whole data set at each step."""
    return fit(nets.mlp(10, 8, 1, act=nn.Tanh), [data.standard("diabetes")] * 60, searching, mse_loss)


def compiled() -> Run:
    """`torch.compile` without code generation, which would take longer than the run."""
    net = nn.Sequential(nets.small())
    net[0].compile(backend="aot_eager")
    return digits(net)


CASES = (
    healthy(
        "nesterov_in_four_epochs",
        TUNING,
        "the same batches again",
        lambda: digits(optimizer=sgd(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3), steps=50, max_epochs=4),
    ),
    healthy("rmsprop", REPORTING, "the usual", lambda: digits(optimizer=rmsprop)),
    healthy("adagrad", TUNING, "the rate only falls", lambda: digits(optimizer=adagrad)),
    healthy("lbfgs", REPORTING, "several evaluations per step", lbfgs),
    healthy(
        "sam", REPORTING, "two backward passes per step", lambda: Run(SharpnessAware(nets.small()), data.digits(), {})
    ),
    healthy(
        "accumulated_4",
        TUNING,
        "one step per four batches",
        lambda: digits(optimizer=sgd(0.1), steps=800, size=16, accumulate_grad_batches=4),
    ),
    healthy(
        "batch_size_1",
        REPORTING,
        "norms vary by orders of magnitude",
        lambda: digits(optimizer=sgd(0.01), steps=600, size=1),
    ),
    healthy(
        "warm_up_from_1e-7",
        TUNING,
        "hardly any update at first",
        lambda: digits(optimizer=adam(3e-3), steps=250, schedule=factor(lambda i: min(1.0, 3e-5 * 1.11**i))),
    ),
    healthy(
        "cosine_with_restarts",
        REPORTING,
        "the rate jumps up",
        lambda: digits(optimizer=sgd(0.2), schedule=lambda opt: CosineAnnealingWarmRestarts(opt, 40)),
    ),
    healthy(
        "one_cycle",
        TUNING,
        "the rate rises and falls to nothing",
        lambda: digits(schedule=lambda opt: OneCycleLR(opt, 0.02, total_steps=201)),
    ),
    healthy(
        "cyclic_lr",
        REPORTING,
        "the rate goes up and down again and again",
        lambda: digits(optimizer=sgd(0.01), schedule=lambda opt: CyclicLR(opt, 0.005, 0.3, step_size_up=15)),
    ),
    healthy(
        "step_decay_x001",
        TUNING,
        "the second half hardly moves",
        lambda: digits(optimizer=sgd(0.2), schedule=lambda opt: StepLR(opt, 100, 0.01)),
    ),
    healthy(
        "lr_range_test",
        REPORTING,
        "the rate sweeps four decades",
        lambda: digits(optimizer=sgd(1e-5), schedule=factor(lambda i: math.exp(i / 18.0))),
    ),
    healthy(
        "fp16_start_overflow",
        TUNING,
        "the first steps overflow until the scale has come down",
        lambda: digits(optimizer=adam(3e-3), plugins=[fp16(init_scale=2.0**26)]),
    ),
    healthy(
        "fp16_growth_overflow",
        REPORTING,
        "the scale grows and overflows again and again",
        lambda: digits(optimizer=adam(3e-3), plugins=[fp16(init_scale=2.0**18, growth_interval=15)]),
    ),
    healthy("bf16_mixed", TUNING, "three digits of precision", lambda: digits(precision="bf16-mixed")),
    healthy("compiled", TUNING, "the forward pass is not Python's", compiled),
    healthy(
        "float64",
        REPORTING,
        "the usual",
        lambda: diabetes(nets.mlp(10, 32, 1), adam(3e-3), precision="64-true"),
    ),
)
