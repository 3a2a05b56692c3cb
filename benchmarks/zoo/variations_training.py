# SPDX-License-Identifier: Apache-2.0
"""Healthy changes of the training: schedules, clipping, precision, accumulation, closures."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from benchmarks.zoo.core import Batch, Learner, Params, Run
from benchmarks.zoo.faults.find import adjust
from benchmarks.zoo.loops import optimizers
from benchmarks.zoo.variation import variation


@variation("tuning")
def warm_up(run: Run) -> None:
    """The rate climbs over a third of the run: updates are tiny at first."""
    before, rise = run.schedule, run.steps / 3
    run.schedule = lambda step: before(step) * min(1.0, (step + 1) / rise)


@variation("left out")
def step_decay(run: Run) -> None:
    """A tenth of the rate from two thirds on: gradients and updates change at once."""
    before, at = run.schedule, int(run.steps / 1.5)
    run.schedule = lambda step: before(step) * (0.1 if step >= at else 1.0)


@variation("left out")
def warm_restarts(run: Run) -> None:
    """The rate falls to almost nothing three times, and is put back."""
    before, part = run.schedule, run.steps / 3
    run.schedule = lambda step: before(step) * max(1e-3, 1 - (step % part) / part)


@variation("tuning")
def decayed_to_nothing(run: Run) -> None:
    """The rate is exactly 0 over the last steps, when all is learnt."""
    before, at = run.schedule, 0.9 * run.steps
    run.schedule = lambda step: before(step) * max(0.0, 1 - step / at)


@variation("left out")
def low_rate(run: Run) -> None:
    """A third of what suits."""
    run.rate /= 3


@variation("tuning", unless=["manual"])
def clipped(run: Run) -> None:
    """The Trainer clips to a norm of 1."""
    run.trainer["gradient_clip_val"] = 1.0


@variation("left out", unless=["manual"])
def accumulated(run: Run) -> None:
    """Two batches per step."""
    run.trainer["accumulate_grad_batches"] = 2
    before = run.schedule
    run.schedule = lambda step: before(2 * step)


@variation("left out", unless=["manual", "equation", "recurrent"])
def bf16_mixed(run: Run) -> None:
    """Activations in bfloat16: gradients are rounded, many entries are equal."""
    run.trainer["precision"] = "bf16-mixed"


@variation("tuning", needs=["plain", "float inputs"], unless=["several"])
def fp16_calibrates(run: Run) -> None:
    """A GradScaler that starts too high, and skips steps until it fits."""
    run.trainer["plugins"] = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", 2.0**22))]


@variation("left out", needs=["adam"], unless=["adafactor", "own loop"])
def loss_x1000(run: Run) -> None:
    """A loss in another unit, to which Adam is indifferent."""
    run.wrap(lambda loss, _: 1000.0 * loss)


@variation("tuning", needs=["adam"], unless=["adafactor", "own loop"])
def loss_in_small_units(run: Run) -> None:
    """A loss of a thousandth, to which Adam is indifferent."""
    run.wrap(lambda loss, _: 1e-3 * loss)


@variation("tuning", unless=["own loop"])
def negative_loss(run: Run) -> None:
    """A constant is taken off: the loss is negative throughout."""
    run.wrap(lambda loss, _: loss - 10.0)


@variation("left out")
def averaged_copy(run: Run) -> None:
    """A moving average is kept beside the weights, and never written back."""
    run.callbacks.append(Averages())


class Averages(Callback):
    """Keeps an average for later."""

    def __init__(self) -> None:
        self.kept = list[Tensor]()

    @override
    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = [p.detach().clone() for p in pl_module.parameters()]
        self.kept = [0.95 * a + 0.05 * b for a, b in zip(self.kept or now, now, strict=True)]


@variation("tuning", needs=["plain"], unless=["several", "adafactor"])
def rates_by_layer(run: Run) -> None:
    """Each layer has a rate of its own, the first a hundredth of the last."""
    inner = run.make

    def make(params: Params, rate: float) -> list[Optimizer]:
        made = inner(params, rate)
        options = {k: v for k, v in made[0].param_groups[0].items() if k not in ("params", "lr")}
        made[0].param_groups.clear()
        for i, (_, p) in enumerate(params):
            made[0].add_param_group({"params": [p], "lr": rate * 0.01 ** (1 - i / (len(params) - 1)), **options})
        return made

    run.make = make


@variation("left out", needs=["plain", "momentum", "float inputs"])
def lbfgs(run: Run) -> None:
    """A closure is evaluated several times per step."""
    run.make = lambda params, rate: [torch.optim.LBFGS([p for _, p in params], lr=0.1, max_iter=4)]
    x, y = (torch.cat(parts) for parts in zip(*run.task.batches[:20], strict=True))
    run.task.batches = [(x, y)] * 40


@variation("tuning", needs=["sgd", "plain"])
def sharpness_aware(run: Run) -> None:
    """SAM: a step uphill, a second gradient, and back (Foret et al., 2021)."""

    def step(learner: Learner, batch: Batch, batch_idx: int) -> None:
        (optimizer,) = optimizers(learner)
        weights = [p for p in run.net.parameters() if p.requires_grad]
        optimizer.zero_grad()
        learner.manual_backward(learner.note(run.loss(batch)))
        up = [p.grad.detach().clone() for p in weights if p.grad is not None]
        norm = float(torch.stack([g.norm() for g in up]).norm()) + 1e-12
        moved(weights, up, 0.05 / norm)
        optimizer.zero_grad()
        learner.manual_backward(run.loss(batch))
        moved(weights, up, -0.05 / norm)
        optimizer.step()

    run.stepper = step


@torch.no_grad()
def moved(weights: list[torch.nn.Parameter], along: list[Tensor], by: float) -> None:
    """Moves weights."""
    for p, direction in zip(weights, along, strict=True):
        p.add_(direction, alpha=by)


@variation("left out", needs=["adam"], unless=["adafactor", "rmsprop", "adagrad", "several"])
def slow_second_moment(run: Run) -> None:
    """A beta2 of 0.9999."""
    adjust(run, betas=(0.9, 0.9999))


@variation("tuning", unless=["manual"])
def batches_left_out(run: Run) -> None:
    """The user returns None for every tenth batch."""

    def step(learner: Learner, batch: Batch, batch_idx: int) -> Tensor | None:
        return None if batch_idx % 10 == 9 else learner.note(run.loss(batch))

    run.stepper, run.automatic = step, True
