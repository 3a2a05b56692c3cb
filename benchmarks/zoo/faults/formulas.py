# SPDX-License-Identifier: Apache-2.0
"""Losses that are not what was meant."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from benchmarks.zoo.core import Batch, Run
from benchmarks.zoo.fault import NOTHING, TOO_LARGE, fault

FLAT = (*NOTHING, "same_output", "diverging", "wrong_loss", "off_scale")
BROKEN = ("nonfinite", *TOO_LARGE)


@fault("tuning", FLAT, "loss formula", needs=["classes"], subtle=True)
def double_softmax(run: Run) -> None:
    """Probabilities go into a loss that takes logits."""
    run.output(lambda out: out.softmax(1))


@fault("left out", FLAT, "loss formula", needs=["classes", "float inputs"])
def softmax_over_the_batch(run: Run) -> None:
    """The softmax runs over dimension 0."""
    run.output(lambda out: 1e-3 * out.softmax(0))


@fault("tuning", FLAT, "loss formula", needs=["classes", "float inputs"])
def averaged_over_the_batch(run: Run) -> None:
    """The outputs are averaged over the batch before the loss."""
    run.output(lambda out: out.mean(0, keepdim=True).expand_as(out))


@fault("left out", FLAT, "loss formula", needs=["numbers", "plain"], subtle=True)
def broadcast(run: Run) -> None:
    """Outputs [B, 1] against targets [B]: every output against every target."""

    def criterion(out: Tensor, batch: Batch) -> Tensor:
        loss: Tensor = (out - batch[1].squeeze(-1)).square().mean()
        return loss

    run.task.criterion = criterion


@fault("tuning", FLAT, "loss formula", "rate too low", needs=["sgd"], unless=["own loop"])
def divided_twice(run: Run) -> None:
    """Divided by the number of samples, and by the number of samples of the whole data set again."""
    run.wrap(lambda loss, _: loss / 60_000)


@fault("left out", FLAT, "loss formula", "detached", needs=["classes", "float inputs"])
def share_of_errors(run: Run) -> None:
    """The share of wrong answers is minimised: it has no slope."""

    def criterion(out: Tensor, batch: Batch) -> Tensor:
        right = (out > out.max(1, keepdim=True).values - 1e-9).float()
        return 1 - right.gather(1, batch[1][:, None]).mean() + 0.0 * out.sum()

    run.task.criterion = criterion


@fault("tuning", FLAT, "loss formula", needs=["classes", "float inputs"])
def margin_plateau(run: Run) -> None:
    """A margin of the wrong sign: every answer is good enough."""

    def criterion(out: Tensor, batch: Batch) -> Tensor:
        right = out.gather(1, batch[1][:, None])
        return (out - right - 50).relu().mean()

    run.task.criterion = criterion


@fault("left out", BROKEN, "loss formula", needs=["classes", "float inputs"])
def log_of_zero(run: Run) -> None:
    """The logarithm of probabilities in which some are exactly 0."""

    def criterion(out: Tensor, batch: Batch) -> Tensor:
        return nll_loss((60 * out).softmax(1).log(), batch[1])

    run.task.criterion = criterion


@fault("tuning", BROKEN, "loss formula", unless=["own loop"], rescue=True)
def root_of_zero(run: Run) -> None:
    """A penalty with a square root, whose argument is 0 in the middle of the run."""
    run.onset, seen = run.steps // 2, [0]

    def around(loss: Tensor, batch: Batch) -> Tensor:
        seen[0] += 1
        weights = next(iter(run.net.parameters()))
        gap = weights - (weights.detach() if seen[0] > run.onset else 0)
        return loss + 1e-6 * gap.square().sum().sqrt()

    run.wrap(around)


@fault("left out", BROKEN, "inputs not scaled", "bad batch", needs=["float inputs"])
def tiny_deviation(run: Run) -> None:
    """Columns are divided by their deviation over the batch, without an epsilon; one column hardly varies."""

    def scale(x: Tensor) -> Tensor:
        x = x.clone()
        x[..., 0] = 1.0
        return (x - x.mean(0)) / x.std(0)

    run.feed(x=scale)


@fault("left out", TOO_LARGE, "loss formula", "rate too high", needs=["sgd"], unless=["own loop"], rescue=True)
def summed(run: Run) -> None:
    """A sum over samples and outputs at the rate of a mean."""
    run.wrap(lambda loss, batch: 1000.0 * loss)


@fault("left out", FLAT, "loss formula", unless=["own loop"])
def clamped(run: Run) -> None:
    """The loss is clamped to below where it starts: no gradient."""
    run.wrap(lambda loss, _: torch.clamp(loss, max=-1e4))
