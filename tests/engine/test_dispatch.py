# SPDX-License-Identifier: Apache-2.0
"""Who hears of an event, what is taken for the loss, and what is kept."""

import torch

from lightning_gradwatch import ExplosionDetector


def test_every_listener_gets_each_event_once(kit):
    heard = []

    class Listener(kit.pl.Callback):
        def on_gradient_event(self, trainer, pl_module, event):
            heard.append(("callback", event.kind.value, event.step))

    class Listening(kit.Lever):
        def on_gradient_event(self, event):
            heard.append(("module", event.kind.value, event.step))

    both = [ExplosionDetector(max_norm=2.0, name=name) for name in "ab"]
    kit.fit(Listening(), [*both, Listener()], steps=2, loader=kit.column([8.0, 1.0]))
    assert heard == [("callback", "explosion", 0), ("module", "explosion", 0)]


def test_monitor_takes_a_logged_metric_for_the_loss(kit):
    class Logs(kit.Lever):
        def training_step(self, batch, batch_idx):
            self.log("mine", 7.0 if batch_idx < 30 else 70.0)
            return super().training_step(batch, batch_idx)

    detector = ExplosionDetector(monitor="mine")
    kit.fit(Logs(lambda p: torch.optim.SGD(p, lr=0.0)), [detector], 31, kit.column([1.0] * 30 + [16.0]))
    assert detector.events[0].cause.startswith("outlier batch (loss 7 -> ")


def test_a_monitor_that_is_never_logged_is_said_once(kit, said):
    kit.pull([1.0] * 5, [ExplosionDetector(monitor="nobody")])
    assert said().count("monitor='nobody' is not logged yet (logged: none so far)") == 1


def test_ignored_kinds_are_neither_told_nor_kept_nor_acted_on(kit, said):
    detector = ExplosionDetector(action="abort", max_norm=2.0, ignore=["explosion"])
    kit.pull([8.0], [detector])
    assert detector.events == []
    assert "explosion" not in said()


def test_events_are_bounded(kit):
    detector = ExplosionDetector(max_norm=2.0, ignore=["spike"])
    detector.events = [None] * 1000
    kit.pull([8.0], [detector])
    assert len(detector.events) == 1000
    assert detector.events[-1].step == 0
