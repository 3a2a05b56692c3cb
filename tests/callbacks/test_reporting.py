# SPDX-License-Identifier: Apache-2.0
"""What fails in our own reports is said once and switched off; what is the user's own, or decides, propagates."""

from __future__ import annotations

import logging
from math import nan

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientEvent,
    GradientNormLogger,
    LRDecay,
    NormClip,
    VanishingDetector,
)
from lightning_gradwatch.rules import Growth, NonFinite, Spike

PACKAGE = "lightning_gradwatch."
REPORTS = {  # what is broken: what is said
    "callbacks.base.start_line": "the lines at the start failed",
    "callbacks.base.notes": "the lines at the start failed",
    "callbacks.gradient_norm_logger.headline": "GradientNormLogger failed",
    "callbacks.gradient_norm_logger.per_layer": "GradientNormLogger failed",
    "callbacks.gradient_norm_logger.EpochAggregate.add": "GradientNormLogger failed",
    "callbacks.gradient_norm_logger.EpochAggregate.compute": "GradientNormLogger failed",
    "engine.investigation.explained": "looking into the layers failed",
    "engine.investigation.gather": "looking into the layers failed",
    "engine.investigation.diagnosed": "looking into the layers failed",
    "engine.investigation.inspect": "looking into the layers failed",
    "output.writer.as_markdown": "failed to write texts",
    "output.writer.step_of": "failed to write records",
    "output.writer.add_layout": "failed to write the layout of its charts",
    "events.GradientEvent.__str__": "printing events failed",
}


class OurOwnError(Exception):
    """No exception that anything else could raise."""


def fail(*_, **__):
    raise OurOwnError("of ours")


def train(kit, tmp_path, *more):
    """Batches with an outlier and a NaN, everything switched on; the weights and what was found."""
    torch.manual_seed(0)
    loader, module = kit.rows(8), kit.net()
    loader.dataset.tensors[1][3 * 8] = 1e6
    loader.dataset.tensors[0][5 * 8] = nan
    detector = ExplosionDetector(max_norm=1e3)
    callbacks = [
        GradientNormLogger(histograms_every_n_steps=2, prog_bar=True),
        detector,
        VanishingDetector(),
        AdaptiveClipper(NormClip(max_norm=1.0)),
        LRDecay(gamma=0.9, every=1),
    ]
    logger = kit.pl.loggers.TensorBoardLogger(tmp_path)
    trainer = kit.fit(module, [*callbacks, *more], -1, loader, logger=logger, max_epochs=2)
    assert trainer.global_step == 16
    return kit.flat(module), [(e.kind, e.step) for e in detector.events if e.severity != "info"]


@pytest.fixture(scope="module")
def sound(kit, tmp_path_factory):
    """The same training with nothing broken."""
    weights, events = train(kit, tmp_path_factory.mktemp("sound"))
    assert {kind.value for kind, _ in events} >= {"explosion", "nonfinite"}
    return weights, events


@pytest.mark.parametrize("where", REPORTS)
def test_a_mistake_in_a_report_is_said_once_and_changes_nothing(kit, tmp_path, monkeypatch, said, sound, where):
    monkeypatch.setattr(PACKAGE + where, fail)
    weights, events = train(kit, tmp_path)
    assert torch.equal(weights, sound[0])
    assert events == sound[1]
    assert said().count("OurOwnError: of ours") == 1
    assert REPORTS[where] in said()


def test_a_handler_of_the_user_that_raises_does_not_end_the_training(kit, tmp_path, capsys):
    class Raises(logging.Handler):
        def emit(self, record):
            raise OurOwnError("a socket that is gone")

    handler, logger = Raises(), logging.getLogger("lightning_gradwatch")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        train(kit, tmp_path)
    finally:
        logger.removeHandler(handler)
    said = [line for line in capsys.readouterr().err.splitlines() if "a socket that is gone" in line]
    assert sum("printing events failed" in line for line in said) == 1


@pytest.mark.parametrize("who", ["callback", "module"])
def test_what_a_listener_raises_is_the_users_and_propagates(kit, who):
    heard = []

    class Error(Exception):
        pass

    def hear(*args):
        heard.append(args[-1])
        raise Error("mine")

    class Listener(kit.pl.Callback):
        def on_gradient_event(self, trainer, pl_module, event):
            hear(event)

    module, listener = kit.Lever(), Listener()
    if who == "module":
        module.on_gradient_event = hear
    detector = ExplosionDetector(max_norm=2.0)
    with pytest.raises(Error, match=r"^mine$") as caught:
        kit.fit(module, [detector, *([listener] if who == "callback" else [])], 2, kit.column([8.0, 1.0]))
    assert caught.value.__cause__ is None
    assert heard == detector.events  # what was announced is kept


@pytest.mark.parametrize("rule", [Growth, Spike])
def test_a_mistake_in_a_rule_that_only_warns_switches_off_that_rule(kit, monkeypatch, said, rule):
    monkeypatch.setattr(rule, "judge", fail)
    detector = ExplosionDetector(max_norm=5.0)
    trace = kit.pull([1.0, 8.0, 1.0, nan, 8.0], [detector])
    assert kit.found(detector) == [("explosion", "alarm", 1), ("nonfinite", "alarm", 3), ("explosion", "alarm", 4)]
    assert torch.equal(trace.weights[2], trace.weights[3])
    assert said().count("of ExplosionDetector failed (OurOwnError: of ours)") == 1


@pytest.mark.parametrize(
    ("rule", "settings"), [(NonFinite, {}), (Spike, {"action": "clip"}), (Growth, {"action": "stop"})]
)
def test_a_mistake_in_a_rule_that_acts_propagates(kit, monkeypatch, rule, settings):
    monkeypatch.setattr(rule, "judge", fail)
    with pytest.raises(OurOwnError):
        kit.pull([1.0] * 3, [ExplosionDetector(**settings)])


def test_a_mistake_in_a_law_propagates(kit, monkeypatch):
    monkeypatch.setattr(NormClip, "update", fail)
    with pytest.raises(OurOwnError):
        kit.pull([1.0] * 3, [AdaptiveClipper("norm")])


def test_an_event_whose_text_fails_is_kept_and_heard(kit, monkeypatch):
    heard = []

    class Listener(kit.pl.Callback):
        def on_gradient_event(self, trainer, pl_module, event):
            heard.append(event)

    monkeypatch.setattr(GradientEvent, "__str__", fail)
    detector = ExplosionDetector(max_norm=2.0)
    kit.pull([8.0, 1.0], [detector, Listener()])
    assert heard == detector.events
    assert len(heard) == 1


WATCHERS = [GradientNormLogger, lambda: ExplosionDetector(nonfinite="warn"), VanishingDetector]


def test_a_measurement_that_fails_ends_no_training_that_is_only_watched(kit, monkeypatch, said):
    def run(callbacks):
        module = kit.net()
        kit.fit(module, callbacks, steps=6)
        return kit.flat(module)

    bare = run([])
    monkeypatch.setattr(PACKAGE + "measurement.meter.Meter.read", fail)
    assert torch.equal(run([make() for make in WATCHERS]), bare)
    assert said().count("nothing is watched from here on (OurOwnError: of ours)") == 1


@pytest.mark.parametrize("acting", [ExplosionDetector, AdaptiveClipper])
def test_a_measurement_that_somebody_acts_on_must_not_fail_unnoticed(kit, monkeypatch, acting):
    monkeypatch.setattr(PACKAGE + "measurement.meter.Meter.read", fail)
    with pytest.raises(OurOwnError):
        kit.fit(kit.net(), [GradientNormLogger(), acting()], steps=6)
