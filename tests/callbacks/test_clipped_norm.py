# SPDX-License-Identifier: Apache-2.0
"""`grad_norm/total_clipped` is the norm after whoever clipped last."""

import pytest

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, NormClip


def test_after_our_own_clipping(kit):
    log = kit.Memory()
    kit.pull([8.0, 1.0], [GradientNormLogger(), AdaptiveClipper(NormClip(max_norm=2.0))], logger=log)
    assert list(log.points["grad_norm/total"].values()) == [8.0, 1.0]
    assert list(log.points["grad_norm/total_clipped"].values()) == pytest.approx([2.0, 1.0])
    assert list(log.points["grad_clip/factor"].values()) == pytest.approx([0.25, 1.0])
    assert list(log.points["grad_clip/threshold"].values()) == [2.0, 2.0]
    assert list(log.points["grad_clip/rate"].values()) == [1.0, 0.5]


def test_after_the_trainers_clipping(kit):
    log = kit.Memory()
    kit.pull([8.0, 1.0], [GradientNormLogger()], logger=log, gradient_clip_val=2.0)
    assert list(log.points["grad_norm/total_clipped"].values()) == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize("hook", ["configure_gradient_clipping", "on_before_optimizer_step"])
def test_after_what_the_users_module_does(kit, hook):
    def halve(module, *args, **kwargs):
        module.w.grad.mul_(0.5)

    log = kit.Memory()
    module = type("Halving", (kit.Lever,), {hook: halve})()
    callbacks = [GradientNormLogger(), AdaptiveClipper(NormClip(max_norm=2.0))]
    kit.fit(module, callbacks, steps=2, loader=kit.column([8.0, 1.0]), logger=log)
    assert list(log.points["grad_norm/total_clipped"].values()) == pytest.approx([1.0, 0.5])


def test_a_skipped_step_moves_nothing(kit):
    log = kit.Memory()
    kit.pull([4.0, 1.0], [GradientNormLogger(), ExplosionDetector(action="skip", max_norm=2.0)], logger=log)
    assert log.points["grad_norm/total"] == {0: 4.0, 1: 1.0}
    assert log.points["grad_norm/total_clipped"][0] == 0.0
    assert 0 not in log.points["grad_update_ratio/w"] or log.points["grad_update_ratio/w"][0] == 0.0
