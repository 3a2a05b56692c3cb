# SPDX-License-Identifier: Apache-2.0
"""On CUDA nobody waits for the numbers: watchers judge one step late, clips and skips happen on the device.

Simulated on the CPU: the engine is told that its parameters lie on a CUDA device, and everything else is real.
"""

import math

import pytest
import torch

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector
from lightning_gradwatch.engine import optimizer_state
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks

NAN = math.nan
NORMS = [1.0 + 0.01 * (i % 7) for i in range(40)] + [60.0, 1.0, NAN, 1.0, 0.0, math.inf] + [13.0] * 8 + [1e6]
FUSED = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, fused=True),
    "sgd with momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
}
each_optimizer = pytest.mark.parametrize("optimizer", FUSED.values(), ids=FUSED)


def lag(monkeypatch):
    monkeypatch.setattr(OptimizerHooks, "on_cuda", property(lambda self: True))


def five():
    return [
        GradientNormLogger(),
        quiet(),
        VanishingDetector(dead_steps=3, diagnose=False),
        AdaptiveClipper(),
        LRDecay(),
    ]


def quiet(**kwargs):
    """A detector that does not look into its findings, which takes batches that come later here."""
    detector = ExplosionDetector(**kwargs)
    detector.diagnose = False
    return detector


def both_ways(monkeypatch, run):
    """What `run` returns at once and one step late."""
    at_once = run()
    with monkeypatch.context() as patch:
        lag(patch)
        return at_once, run()


@each_optimizer
def test_all_watching_is_the_same_a_step_late(kit, monkeypatch, optimizer):
    def run():
        callbacks, log = five()[:3], kit.Memory()
        callbacks[1] = quiet(nonfinite="warn")
        trace = kit.pull([n for n in NORMS if n == n], callbacks, optimizer, logger=log)
        events = [(e.kind, e.severity, e.step, e.message, e.cause) for e in kit.verdicts(*callbacks[1:])]
        states = [repr(d.state_dict()["rules"]) for d in callbacks[1:]]
        points = {tag: values for tag, values in log.points.items() if "event" not in tag}  # counted when they are told
        return events, states, points, repr(trace.weights)

    at_once, late = both_ways(monkeypatch, run)
    assert at_once[0]
    assert late == at_once


def test_listeners_hear_of_a_spike_one_step_late(kit, monkeypatch):
    def run():
        heard = []

        class Listener(kit.pl.Callback):
            def on_gradient_event(self, trainer, pl_module, event):
                heard.append((event.kind.value, event.step, trainer.global_step))

        kit.pull([1.0] * 30 + [60.0, 1.0, 1.0], [quiet(nonfinite="warn"), Listener()])
        return heard

    assert both_ways(monkeypatch, run) == ([("spike", 30, 30)], [("spike", 30, 31)])


@each_optimizer
def test_clipping_and_skipping_are_not_late(kit, monkeypatch, optimizer):
    def run():
        callbacks = five()
        trace = kit.pull(NORMS, callbacks[3:4], optimizer)
        return torch.stack(trace.weights), repr(callbacks[3].state_dict()["laws"])

    (weights, laws), (late_weights, late_laws) = both_ways(monkeypatch, run)
    assert torch.allclose(weights, late_weights, rtol=1e-5, atol=1e-7)
    assert laws == late_laws
    assert weights.isfinite().all()


@each_optimizer
def test_a_nonfinite_step_is_a_true_no_op_on_the_device(kit, monkeypatch, optimizer):
    lag(monkeypatch)
    detector = ExplosionDetector()
    trace = kit.pull([1.0, NAN, 2.0, math.inf], [detector], optimizer)
    plain = kit.pull([1.0, 2.0], [], optimizer)
    assert torch.equal(trace.weights[-1], plain.weights[-1])
    (state,), (other,) = (list(t.trainer.optimizers[0].state.values()) or [{}] for t in (trace, plain))
    assert all(torch.equal(state[key], other[key]) for key in other if other[key] is not None)
    assert kit.found(detector) == [("nonfinite", "alarm", 1), ("nonfinite", "alarm", 3)]
    assert detector.events[0].action_taken == "step skipped, weights intact (1 of at most 20 in a row)"
    assert not {"found_inf", "grad_scale"} & vars(trace.trainer.optimizers[0]).keys()


@each_optimizer
def test_a_first_step_that_is_not_finite_leaves_nothing_behind(kit, monkeypatch, optimizer):
    lag(monkeypatch)
    trace = kit.pull([NAN, 1.0], [ExplosionDetector()], optimizer)
    plain = kit.pull([1.0], [], optimizer)
    assert torch.equal(trace.weights[0], torch.ones(4))
    assert torch.equal(trace.weights[1], plain.weights[0])


@pytest.mark.parametrize("action", ["skip", "stop", "abort", "clip"])
def test_what_acts_on_this_step_is_never_late(kit, monkeypatch, action):
    def run():
        detector = ExplosionDetector(action=action, max_norm=8.0)
        try:
            trace = kit.pull([1.0, 1.0, 64.0, 1.0], [detector, GradientNormLogger()], FUSED["adamw"])
            return kit.found(detector), kit.flat(trace.module).tolist(), detector.events[0].action_taken
        except Exception as error:
            return repr(error)

    at_once, late = both_ways(monkeypatch, run)
    assert at_once == late


def test_the_last_step_is_judged_at_the_end_of_training(kit, monkeypatch):
    lag(monkeypatch)
    detector, log = ExplosionDetector(max_norm=8.0), kit.Memory()
    kit.pull([1.0, 64.0], [detector, GradientNormLogger()], FUSED["adamw"], logger=log)
    assert kit.found(detector) == [("explosion", "alarm", 1)]
    assert log.points["grad_norm/total"] == {0: 1.0, 1: 64.0}


@pytest.mark.parametrize("at", [39, 41, 43, 46])
def test_a_checkpoint_keeps_the_step_that_is_not_judged_yet(kit, monkeypatch, tmp_path, at):
    lag(monkeypatch)

    def run(callbacks, steps, ckpt_path=None):
        module, log = kit.Lever(FUSED["adamw"]), kit.Memory()
        trainer = kit.fit(module, callbacks, steps=steps, loader=kit.column(NORMS), ckpt_path=ckpt_path, logger=log)
        return trainer, [c.state_dict() for c in callbacks], kit.flat(module)

    class Kill(kit.pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == at:
                trainer.save_checkpoint(tmp_path / "killed.ckpt")
                raise KeyError

    _, whole, weights = run(five(), len(NORMS))
    with pytest.raises(KeyError):
        run([*five(), Kill()], len(NORMS))
    _, second, other_weights = run(five(), len(NORMS), tmp_path / "killed.ckpt")
    assert torch.equal(weights, other_weights)
    assert repr(second) == repr(whole)


def test_layers_may_be_frozen_while_numbers_travel(kit, monkeypatch):
    lag(monkeypatch)

    class Thawing(kit.Net):
        def training_step(self, batch, batch_idx):
            self.net[0].requires_grad_(batch_idx % 4 < 2)
            return super().training_step(batch, batch_idx)

    log = kit.Memory()
    kit.fit(Thawing(FUSED["adamw"]), [*five()[:1], ExplosionDetector(max_norm=1e-9)], steps=8, logger=log)
    assert len(log.points["grad_norm/total"]) == 8


@pytest.mark.parametrize("settings", [{"accumulate_grad_batches": 3}, {"log_every_n_steps": 4}], ids=str)
def test_the_step_axis_is_that_of_the_step_itself(kit, monkeypatch, settings):
    def run():
        log = kit.Memory()
        kit.pull(NORMS[:40], [GradientNormLogger()], FUSED["adamw"], logger=log, steps=12, **settings)
        return {tag: points for tag, points in log.points.items() if tag.startswith("grad_norm")}

    at_once, late = both_ways(monkeypatch, run)
    assert at_once == late


def test_a_step_that_is_waited_for_is_judged_by_the_same_numbers_in_one_copy(kit, monkeypatch):
    def run():
        callbacks, log = [*five()[:1], quiet(action="clip"), *five()[2:]], kit.Memory()
        left = kit.pull(NORMS[:-1], callbacks, logger=log)
        events = [(event.kind, event.step, event.severity) for event in callbacks[1].events]
        return log.points, events, left.weights

    on_the_host = run()
    monkeypatch.setattr(optimizer_state, "_at_hand", optimizer_state._from_device)
    points, events, weights = run()
    assert events == on_the_host[1] != []
    assert all(torch.equal(a, b) for a, b in zip(weights, on_the_host[2], strict=True))
    assert points.keys() == on_the_host[0].keys()
    for tag, values in points.items():
        assert values == pytest.approx(on_the_host[0][tag], nan_ok=True), tag
