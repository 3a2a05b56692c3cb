# SPDX-License-Identifier: Apache-2.0
"""Whatever changes a training says so, and is counted."""

import math

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
    NormClip,
    ValueClip,
    VanishingDetector,
    default_callbacks,
)
from lightning_gradwatch.engine.interventions import Intervention, Interventions, Touch

NAN = math.nan


def last(said):
    return said().strip().splitlines()[-1]


def test_a_clip_is_counted_with_its_factor_and_its_layer(kit, said):
    clipper = AdaptiveClipper(NormClip(max_norm=2.0))
    kit.pull([1.0, 8.0, 1.0, 8.0], [clipper])
    clipped = clipper.interventions["clipped"]
    assert (clipped.steps, clipped.first, clipped.last) == (2, 1, 3)
    assert clipped.factor == pytest.approx(0.25, rel=1e-5)
    assert clipped.layers == {"": 2} or set(clipped.layers.values()) == {2}
    assert "4 optimizer steps: gradient clipped at 2 steps (1 to 3, x0.25 on average)" in said()


def test_a_clip_of_entries_is_counted_too(kit):
    clipper = AdaptiveClipper(ValueClip(0.5))
    kit.pull([0.1, 8.0], [clipper])
    assert clipper.interventions["clipped"].steps == 1


def test_a_skip_counts_as_a_skip_and_as_no_clip(kit):
    callbacks = [AdaptiveClipper(NormClip(max_norm=2.0)), ExplosionDetector()]
    kit.pull([1.0, NAN, 1.0], callbacks)
    assert [dict.fromkeys(c.interventions) for c in callbacks] == [{"skipped": None}] * 2


def test_each_step_counts_once_whoever_changed_it(kit, said):
    kit.pull([1.0, NAN, 1.0], [AdaptiveClipper(), ExplosionDetector()])
    assert "step skipped at 1 step (1)" in last(said)


def test_a_clip_of_the_detector_is_its_own(kit):
    detector, clipper = ExplosionDetector(action="clip", max_norm=2.0), AdaptiveClipper(NormClip(max_norm=100))
    kit.pull([1.0, 8.0, 1.0], [detector, clipper])
    assert detector.interventions["clipped"].steps == 1
    assert "clipped" not in clipper.interventions


def test_nothing_to_report_means_that_nothing_was_touched(kit, said):
    kit.pull([1.0, 1.1, 0.9] * 5, default_callbacks(rescue=True))
    assert "15 optimizer steps: nothing to report" in said()


def test_a_rate_that_is_lowered_is_counted_with_the_rate_that_would_have_done(kit, said):
    decay = LRDecay()
    net = kit.net(lambda p: torch.optim.Adam(p, lr=10.0))
    kit.fit(net, [ExplosionDetector(), decay], steps=20)
    lowered = decay.interventions["rate_lowered"]
    assert (lowered.steps, lowered.first, lowered.last) == (20, 0, 19)
    assert lowered.factor < 0.1
    assert 0 < lowered.sound < 1.0
    assert "nothing to report" not in said()
    assert f"next run: a learning rate of {lowered.sound:.2g} would have needed no help" in said()


def test_a_back_off_is_counted_apart_and_is_no_reason_to_warn_again(kit, said):
    heard = []

    class Listener(kit.Trace):
        def on_gradient_event(self, trainer, pl_module, event):
            heard.append(event.kind.value)

    decay = LRDecay(patience=1, hold_steps=200)
    kit.pull([1.0] * 20 + [9.0] + [1.0] * 119, [ExplosionDetector(max_norm=8.0), decay, Listener()])
    backed_off = decay.interventions["backed_off"]
    assert (backed_off.first, backed_off.factor) == (20, pytest.approx(0.5))
    assert "rate_lowered" not in decay.interventions
    assert "held" not in heard
    assert "learning rate backed off after an event at 120 steps (20 to 139, x0.5 on average)" in said()
    assert "next run" not in said()


def test_a_schedule_of_the_users_own_is_no_intervention(kit, said):
    decay = LRDecay(gamma=0.5, every=1, on=())
    kit.pull([1.0] * 4, [decay])
    assert not decay.interventions
    assert "nothing to report" in last(said)


@pytest.mark.parametrize(("law", "severity"), [(NormClip(max_norm=0.5), "info")])
def test_what_is_touched_often_is_told_once_with_a_number_to_type_in(kit, said, law, severity):
    heard = []

    class Listener(kit.Trace):
        def on_gradient_event(self, trainer, pl_module, event):
            heard.append(event)

    kit.pull([1.0] * 150, [AdaptiveClipper(law), Listener()])
    told = [event for event in heard if event.kind.value == "held"]
    assert [(event.severity.value, event.step) for event in told] == [(severity, 100)]
    assert "a limit of 1 would have needed no help" in str(told[0])
    assert "next run: a limit of 1 for the gradient norm would have clipped nothing" in said()


def test_a_rate_that_is_lowered_at_each_step_becomes_a_warning(kit):
    heard = []

    class Listener(kit.Trace):
        def on_gradient_event(self, trainer, pl_module, event):
            heard.append(event)

    net = kit.net(lambda p: torch.optim.Adam(p, lr=10.0))
    kit.fit(net, [ExplosionDetector(), LRDecay(), Listener()], steps=120, loader=kit.rows(120))
    told = [event for event in heard if event.kind.value == "held"]
    assert [(event.severity.value, event.step) for event in told] == [("warning", 100)]
    assert "the learning rate is too high" in told[0].cause
    assert told[0].remedies[0].text.startswith("a learning rate of ")


def test_counts_survive_a_resume(kit, tmp_path):
    def callbacks():
        return [AdaptiveClipper(NormClip(max_norm=2.0)), ExplosionDetector()]

    whole, first, second = callbacks(), callbacks(), callbacks()
    norms = [1.0, 8.0, 1.0, 8.0, NAN, 8.0]
    loader = kit.column(norms)
    kit.fit(kit.Lever(), whole, steps=6, loader=loader)
    trainer = kit.fit(kit.Lever(), first, steps=3, loader=loader)
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    kit.fit(kit.Lever(), second, steps=6, loader=loader, ckpt_path=tmp_path / "c.ckpt")
    for one, other in zip(whole, second, strict=True):
        assert one.interventions.keys() == other.interventions.keys()
    assert second[0].interventions["clipped"].first == whole[0].interventions["clipped"].first


def test_the_loggers_get_the_counts(kit):
    logger = kit.Memory()
    kit.pull([1.0, 8.0, 1.0, 8.0], [AdaptiveClipper(NormClip(max_norm=2.0)), GradientNormLogger()], logger=logger)
    assert max(logger.points["grad_act/clipped"].values()) == 2


def test_both_limits_hold_where_a_library_sets_gradient_clip_val(kit, said):
    for ours, theirs in ((0.5, 2.0), (2.0, 0.5)):
        trace = kit.Trace()
        kit.pull([8.0], [AdaptiveClipper(NormClip(max_norm=ours)), trace], gradient_clip_val=theirs)
        assert trace.norms == [pytest.approx(0.5, rel=1e-4)]
    line = "Trainer(gradient_clip_val=2.0) and AdaptiveClipper both clip: the smaller limit holds"
    assert line in said()


def test_watchers_touch_nothing(kit):
    watchers = [GradientNormLogger(), ExplosionDetector(nonfinite="warn"), VanishingDetector()]
    kit.pull([1.0, 100.0, 1.0], watchers)
    assert not any(watcher.interventions for watcher in watchers)


def test_a_learning_rate_is_averaged_and_a_limit_is_the_largest():
    rates, limits = Intervention(), Intervention()
    for step, sound in enumerate((0.1, 0.001)):
        rates.add("rate_lowered", step, Touch(0.5, sound=sound))
        limits.add("clipped", step, Touch(0.5, sound=sound))
    assert rates.sound == pytest.approx(0.01)
    assert limits.sound == 0.1


@pytest.mark.parametrize(
    ("touched", "told"),
    [(range(0, 300, 10), []), (range(0, 300, 9), [108]), (range(30), []), ([*range(30), 100, 101], [100])],
)
def test_often_is_more_than_ten_of_the_last_hundred_once_there_are_as_many(touched, told):
    kinds = Interventions()
    found = [kinds.add("clipped", i, Touch(0.5), ordinal=i).becomes_frequent(0) for i in touched]
    assert [i for i, frequent in zip(touched, found, strict=True) if frequent] == told
