# SPDX-License-Identifier: Apache-2.0
"""Accumulation, manual optimization, several optimizers: what is measured, judged and skipped there."""

import math

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
)

NAN = math.nan


def points(log, tag):
    """The values of a tag, in order."""
    return list(log.points[tag].values())


def two(kit, behaviour, **attributes):
    """A module with two levers `a` and `b` of four ones, each with its own SGD, and a hand-written training_step."""

    class Two(kit.pl.LightningModule):
        automatic_optimization = False

        def __init__(self):
            super().__init__()
            self.a, self.b = (torch.nn.Parameter(torch.ones(4)) for _ in "ab")

        def training_step(self, batch, batch_idx):
            behaviour(self, batch[0].item(), batch_idx, *self.optimizers())

        def configure_optimizers(self):
            return [torch.optim.SGD([p], lr=0.125) for p in (self.a, self.b)]

    return type("Two", (Two,), attributes)()


def test_accumulated_gradients_are_measured_once_per_step(kit):
    # The loss of each batch is divided by 4, in the short last window too.
    log = kit.Memory()
    kit.pull([4.0, 8.0, 12.0, 16.0, 4.0, 4.0], [GradientNormLogger()], accumulate_grad_batches=4, logger=log, steps=2)
    assert points(log, "grad_norm/total") == [10.0, 2.0]


def test_the_loss_of_a_window_is_the_mean_of_its_batches(kit):
    detector = ExplosionDetector(window=10, warmup_steps=5)
    norms = [1.0] * 40 + [60.0, 100.0]
    kit.pull(norms, [detector], lambda p: torch.optim.SGD(p, lr=0.0), accumulate_grad_batches=2, steps=21)
    assert detector.events[0].cause.endswith("(loss 2 -> 160, learning rate steady)")


def test_a_skip_drops_the_whole_window_and_only_that(kit):
    trace = kit.pull([1.0, NAN, 1.0, 3.0], [ExplosionDetector()], accumulate_grad_batches=2, steps=2)
    assert torch.equal(trace.weights[1], torch.ones(4))
    assert torch.equal(trace.weights[3], torch.full((4,), 1 - 0.125))


def test_each_optimizer_is_judged_by_its_own_parameters(kit):
    def step(module, norm, batch_idx, first, second):
        # As GANs do: the loss of the second reaches the weights of the first, whose gradients stay behind.
        first.zero_grad()
        module.manual_backward((module.a * norm / 2).sum())
        first.step()
        second.zero_grad()
        module.manual_backward((module.b * norm).sum() + (module.a * 1e6).sum())
        second.step()

    log, detector = kit.Memory(), ExplosionDetector(max_norm=3.0)
    kit.fit(two(kit, step), [GradientNormLogger(), detector], steps=4, loader=kit.column([1.0, 2.0]), logger=log)
    assert log.points["grad_norm/total/opt0"] == {0: 1.0, 1: 2.0}  # batches, as for `self.log`, where global_step is 2
    assert log.points["grad_norm/total/opt1"] == {0: 2.0, 1: 4.0}
    assert [(e.optimizer, e.step, e.value) for e in detector.events] == [(1, 3, 4.0)]
    assert "step 3 (epoch 0, batch 1, optimizer 1)" in str(detector.events[0])


def test_one_optimizer_is_skipped_without_the_other(kit):
    def step(module, norm, batch_idx, first, second):
        for optimizer, weight, pull in ((first, module.a, norm), (second, module.b, 1.0)):
            optimizer.zero_grad()
            module.manual_backward((weight * pull / 2).sum())
            optimizer.step()

    module = two(kit, step)
    kit.fit(module, [ExplosionDetector()], steps=2, loader=kit.column([NAN]))
    assert torch.equal(module.a, torch.ones(4))
    assert torch.equal(module.b, torch.full((4,), 1 - 0.125 / 2))


def test_each_optimizer_has_its_own_statistics_limit_and_scale(kit):
    def step(module, norm, batch_idx, first, second):
        for optimizer, weight, pull in ((first, module.a, norm), (second, module.b, 100.0 * norm)):
            optimizer.zero_grad()
            module.manual_backward((weight * pull / 2).sum())
            optimizer.step()

    detector, log = ExplosionDetector(), kit.Memory()
    callbacks = [detector, AdaptiveClipper("percentile"), LRDecay(backoff=0.5, hold_steps=100, patience=1)]
    kit.fit(two(kit, step), callbacks, steps=82, loader=kit.column([1.0] * 40 + [50.0]), logger=log)
    assert {event.optimizer for event in detector.events} == {0, 1}
    assert points(log, "grad_clip/threshold/opt1")[-1] == pytest.approx(
        100 * points(log, "grad_clip/threshold/opt0")[-1]
    )
    assert points(log, "grad_lr/scale/opt0")[-1] == 0.5


def test_steps_that_are_not_taken_by_lightning_are_not_seen(kit):
    def step(module, norm, batch_idx, first, second):
        raw, _ = module.optimizers(use_pl_optimizer=False)
        module.manual_backward((module.a * norm / 2).sum())
        raw.step()

    detector = ExplosionDetector(max_norm=1e-3)
    trainer = kit.trainer([detector], max_epochs=1)
    trainer.fit(two(kit, step), kit.column([1.0]))
    assert detector.events == []


@pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`")
def test_a_training_step_that_returns_none_changes_nothing(kit):
    class Absent(kit.Lever):
        def training_step(self, batch, batch_idx):
            return None if batch_idx in (0, 2) else super().training_step(batch, batch_idx)

    module, detector = Absent(), ExplosionDetector(action="abort", max_norm=9.0)
    callbacks = [detector, AdaptiveClipper(), GradientNormLogger(), LRDecay(gamma=1.0)]
    trainer = kit.fit(module, callbacks, steps=4, loader=kit.column([1.0] * 4))
    assert trainer.global_step == 4
    assert torch.equal(module.w, torch.full((4,), 1 - 2 * 0.125 / 2))
    assert detector.events == []
