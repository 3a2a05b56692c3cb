# SPDX-License-Identifier: Apache-2.0
"""The same runs in other units must get the same verdicts: ``python -m benchmarks.listed.invariance``.

The loss is multiplied by a factor, or two layers of a ReLU network are re-scaled against each other; the optimizer's
constants are scaled along, so that each run computes the same function at each step. Exits with 1 if a verdict differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.listed.case import Case
from benchmarks.listed.cases import CASES
from benchmarks.listed.measure import prepare, watched
from benchmarks.listed.tasks import Run, times

Change = Callable[[Run], Run]
HOMOGENEOUS = (
    "mlp_adam",
    "mlp_sgd",
    "relu_he_12_layers",
    "converged",
    "sgd_lr_20",
    "one_batch_x1e6",
    "inputs_x300",
    "deep_relu_small_normal",
    "lr_1e-9",
    "relu_bias_-10",
)
OTHERS = (
    "residual_with_norm",
    "zero_init_residual",
    "cnn_batchnorm",
    "orthogonal_rnn_recall",
    "noisy_labels_50",
    "three_outliers_recover",
    "fine_tuned_lr_1e-6",
    "adam_lr_1",
    "nan_in_one_batch",
    "deep_sigmoid_sgd",
    "deep_sigmoid_adam",
    "deep_tanh_small_normal",
    "tanh_rho_03_recall_80",
    "tanh_normal_2",
    "detached_body",
    "body_not_in_optimizer",
)


def loss_times(k: float) -> Change:
    """The loss times `k`."""

    def change(run: Run) -> Run:
        make = run.module.optimizer
        run.module.loss = times(k, run.module.loss)
        run.module.optimizer = lambda net: adapted(make(net), lambda p: 1.0, lambda p: k)
        return run

    return change


def layers_times(k: float) -> Change:
    """The first layer times `k`, the second divided by it: a ReLU in between lets both factors cancel."""

    def change(run: Run) -> Run:
        first, second = [layer for layer in run.module.net.modules() if isinstance(layer, nn.Linear)][:2]
        scale = {first.weight: k, first.bias: k, second.weight: 1 / k}
        with torch.no_grad():
            for p, by in scale.items():
                p.mul_(by)
        make = run.module.optimizer
        run.module.optimizer = lambda net: adapted(
            make(net), lambda p: scale.get(p, 1.0), lambda p: 1 / scale.get(p, 1.0)
        )
        return run

    return change


def adapted(
    optimizer: Optimizer, weight: Callable[[nn.Parameter], float], grad: Callable[[nn.Parameter], float]
) -> Optimizer:
    """The optimizer with which weights in units of `weight` and gradients in units of `grad` train as before."""
    groups = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            new = {**group, "params": [p]}
            if "eps" in group:  # Adam: steps in units of the learning rate
                new |= {"lr": group["lr"] * weight(p), "eps": group["eps"] * grad(p)}
            else:  # SGD: steps in units of the learning rate times the gradient
                new |= {"lr": group["lr"] * weight(p) / grad(p)}
            groups.append(new)
    # Its class has defaults for everything but the groups, which the type of their base class does not say.
    return type(optimizer)(groups)  # type: ignore[call-arg]


CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "loss x1e6": (loss_times(1e6), HOMOGENEOUS + OTHERS),
    "loss x1e-6": (loss_times(1e-6), HOMOGENEOUS + OTHERS),
    "layers x32": (layers_times(32.0), HOMOGENEOUS),
    "layers x1/32": (layers_times(1 / 32), HOMOGENEOUS),
}


def verdict(case: Case, change: Change | None = None) -> list[str]:
    """The kinds of all alarms of the run with seed 0."""
    run = case.build(0)
    events, _ = watched(run if change is None else change(run))
    return sorted({event["kind"] for event in events if event["severity"] == "alarm"})


def main() -> int:
    """Prints one line per pair."""
    prepare()
    different = 0
    plain = {name: verdict(CASES[name]) for name in HOMOGENEOUS + OTHERS}
    for title, (change, names) in CHANGES.items():
        for name in names:
            scaled = verdict(CASES[name], change)
            different += scaled != plain[name]
            mark = "same" if scaled == plain[name] else f"DIFFERENT, now {scaled}"
            print(f"{title}: {name}: {plain[name] or 'silent'}: {mark}", flush=True)
    print(f"{different} verdicts differ")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
