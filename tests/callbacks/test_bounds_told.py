# SPDX-License-Identifier: Apache-2.0
"""What `AdaptiveClipper` and `LRDecay` did before any detector could find something is told, once, and not counted."""

import pytest
import torch

from lightning_gradwatch import AdaptiveClipper, EventKind, ExplosionDetector, LRDecay, NormClip, Severity
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks

CALM = [1.0 + 0.01 * (i % 7) for i in range(60)]


class Ears:
    """Remembers what the clippers and schedules told."""

    def on_gradient_event(self, trainer, pl_module, event):
        if event.severity is Severity.INFO and not event.message.startswith("diagnosed"):
            self.heard.append(event)


@pytest.fixture
def ears(kit):
    callback = type("Listener", (Ears, kit.pl.Callback), {})()
    callback.heard = []
    return callback


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_a_first_batch_that_the_weights_cannot_bear_is_told_by_layer_and_batch(kit, ears, said, monkeypatch, late):
    if late:
        monkeypatch.setattr(OptimizerHooks, "on_cuda", property(lambda self: True))
    kit.pull([1e6, 1.0, 1.0], [AdaptiveClipper(), ears], lambda p: torch.optim.SGD(p, lr=0.125, fused=late))
    (event,) = ears.heard
    assert (event.kind, event.batch_idx, event.value) == (EventKind.UPDATE_TOO_LARGE, 0, 1e6)
    assert len(event.layers) == 1
    assert event.prevented
    assert event.action_taken.startswith("clipped x")
    assert "a step would move some weights by more than they can bear" in said()


def test_a_hard_clip_is_told_where_no_detector_tells_of_the_spike(kit, ears):
    kit.pull([*CALM, 1e4, 1.0], [AdaptiveClipper(), ears])
    (event,) = ears.heard
    assert (event.kind, event.batch_idx) == (EventKind.SPIKE, len(CALM))
    assert "100 %" in event.message


def test_beside_a_detector_that_tells_of_it_nothing_is_said_twice(kit, ears):
    kit.pull([*CALM, 1e4, 1.0], [AdaptiveClipper(), ExplosionDetector(), ears])
    assert ears.heard == []


def test_a_limit_of_the_users_own_needs_no_explanation(kit, ears):
    kit.pull([100.0] * 5, [AdaptiveClipper(NormClip(max_norm=1.0)), ears])
    assert ears.heard == []


def test_a_storm_of_hard_clips_is_told_once_and_heard_each_time(kit, ears, said):
    clipper = AdaptiveClipper(max_update_ratio=1e-4)
    kit.pull([1.0] * 9, [clipper, ears])
    assert len(ears.heard) == 9
    assert said().count("INFO update_too_large") == 1
    assert clipper.counts == {}


def test_a_rate_of_adam_that_is_lowered_is_told_with_what_to_do(kit, ears, said):
    module = kit.net(lambda p: torch.optim.Adam(p, lr=3.0))
    kit.fit(module, [LRDecay(), ExplosionDetector(), ears], steps=3)
    event = ears.heard[0]
    assert (event.kind, event.limit) == (EventKind.UPDATE_TOO_LARGE, 0.3)
    assert event.value > 3
    assert event.action_taken.startswith("learning rate x0.0")
    assert "learning rate / 10" in str(event)
    assert "limit rates to updates of 0.3 of the weights" in said()
    assert said().count("INFO update_too_large") == 1


def test_a_usual_run_is_told_nothing(kit, ears):
    module = kit.net(lambda p: torch.optim.Adam(p, lr=1e-2))
    kit.fit(module, [AdaptiveClipper(), LRDecay(), ExplosionDetector(), ears], steps=30)
    assert ears.heard == []
