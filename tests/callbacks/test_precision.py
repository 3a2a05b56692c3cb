# SPDX-License-Identifier: Apache-2.0
"""Training with a GradScaler, with optimizers that unscale in their own step and others; other precisions; extremes.

A Lever's gradient overflows float32, and so finds the scaler out, where the scale times half its norm exceeds 2**128.
"""

import importlib
import math

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientExplosionError,
    GradientNormLogger,
    NormClip,
    ValueClip,
    VanishingDetector,
)

NAN, HUGE_SCALE = math.nan, 2.0**127


@pytest.fixture(params=[False, True], ids=["unscaled at the hook", "fused"])
def fp16(request, kit):
    """Pulls a Lever under a GradScaler."""
    precision = importlib.import_module(f"{kit.pl.__name__}.plugins.precision").MixedPrecision

    def pull(norms, callbacks=(), scale=1024.0, optimizer=None, **settings):
        make = optimizer or (lambda p: torch.optim.SGD(p, lr=0.125, fused=request.param))
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        return kit.pull(norms, callbacks, make, plugins=[precision("16-mixed", "cpu", scaler)], **settings)

    pull.fused = request.param
    return pull


def totals(trace):
    return trace.trainer.callback_metrics["grad_norm/total"].item()


def test_norms_are_unscaled(fp16):
    trace = fp16([2.0, 0.75], [GradientNormLogger()])
    assert totals(trace) == pytest.approx(0.75)
    assert trace.trainer.callback_metrics["grad_norm/total_clipped"].item() == pytest.approx(0.75)
    assert trace.trainer.callback_metrics["grad_max/total"].item() == pytest.approx(0.375)


def test_watching_changes_nothing(fp16, kit):
    watched = fp16([2.0, 0.75, 3.0], [GradientNormLogger(), ExplosionDetector(), VanishingDetector()])
    assert torch.equal(watched.weights[-1], fp16([2.0, 0.75, 3.0]).weights[-1])
    assert torch.equal(watched.weights[-1], kit.pull([2.0, 0.75, 3.0]).weights[-1])


@pytest.mark.parametrize("callback", [ExplosionDetector, AdaptiveClipper], ids=["detector", "clipper"])
def test_an_overflow_at_the_start_is_calibration_and_no_event(fp16, said, callback):
    trace = fp16([4.0] * 4, [callback()], scale=HUGE_SCALE)
    assert "nonfinite" not in said()
    assert "nothing to report" in said()
    assert torch.equal(trace.weights[0], torch.ones(4))
    assert torch.equal(trace.weights[-1], torch.full((4,), 1 - 3 * 0.125 * 2))


def test_a_scaler_that_skips_on_and_on_is_stuck(fp16, kit):
    detector = ExplosionDetector()
    fp16([1.0] + [NAN] * 20, [detector], scale=2.0**40)
    assert kit.found(detector) == [("scaler_stuck", "alarm", 13)]
    assert detector.events[0].message.startswith("the GradScaler skipped 13 steps in a row, its scale is ")


def test_a_scale_below_1_is_stuck(fp16, kit):
    detector = ExplosionDetector()
    fp16([1.0, NAN, 1.0], [detector], scale=1.5)
    assert kit.found(detector) == [("scaler_stuck", "alarm", 2)]


def test_an_overflow_is_no_skip_of_ours_and_cannot_abort(fp16):
    trace = fp16([1.0, NAN] * 8, [ExplosionDetector(max_skips=0)], scale=2.0**40)
    assert trace.trainer.global_step == 16


def test_a_finite_skip_is_a_true_no_op(fp16):
    def make(parameters):
        return torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1, fused=fp16.fused)

    trace = fp16([1.0, 8.0, 1.0], [ExplosionDetector(action="skip", max_norm=2.0)], optimizer=make)
    plain = fp16([1.0, 1.0], optimizer=make)
    assert torch.equal(trace.weights[1], trace.weights[0])
    assert torch.equal(trace.weights[2], plain.weights[1])
    state, other = (next(iter(t.trainer.optimizers[0].state.values())) for t in (trace, plain))
    assert state["step"] == other["step"] == 2
    assert torch.equal(state["exp_avg_sq"], other["exp_avg_sq"])


CLIPPERS = {
    "max_norm": lambda: ExplosionDetector(action="clip", max_norm=2.0),
    "max_abs": lambda: ExplosionDetector(action="clip", max_abs=1.0),
    "norm law": lambda: AdaptiveClipper(NormClip(max_norm=2.0)),
    "value law": lambda: AdaptiveClipper(ValueClip(value=1.0)),
}


@pytest.mark.parametrize("make", CLIPPERS.values(), ids=CLIPPERS)
def test_clipping_is_in_unscaled_units(fp16, make):
    trace = fp16([16.0], [make(), GradientNormLogger()])
    assert torch.allclose(trace.weights[0], torch.full((4,), 1 - 0.125), rtol=1e-6)  # entries of 1 are left
    assert trace.trainer.callback_metrics["grad_norm/total_clipped"].item() == pytest.approx(2.0)


def test_a_stop_leaves_the_weights_from_before_the_step(fp16, kit):
    trace = fp16([1.0, 1.0, 8.0, 1.0], [ExplosionDetector(action="stop", max_norm=4.0)], min_steps=4)
    assert torch.equal(kit.flat(trace.module), torch.full((4,), 1 - 2 * 0.125 / 2))
    assert trace.trainer.global_step == 2


def test_an_abort_carries_its_event(fp16):
    with pytest.raises(GradientExplosionError) as caught:
        fp16([1.0, 1.0, 8.0, 1.0], [ExplosionDetector(action="abort", max_norm=4.0)])
    assert (caught.value.event.step, caught.value.event.value) == (2, 8.0)


def test_the_loss_in_the_message_is_the_users(fp16):
    detector = ExplosionDetector()
    fp16([1.0] * 20 + [200.0], [detector], optimizer=lambda p: torch.optim.SGD(p, lr=0.0, fused=fp16.fused))
    assert detector.events[0].cause.endswith("(loss 2 -> 400, learning rate steady)")


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_other_precisions_are_measured_and_clipped(kit, precision):
    callbacks = [GradientNormLogger(), AdaptiveClipper(NormClip(max_norm=2.0))]
    trace = kit.pull([16.0], callbacks, precision=precision)
    assert totals(trace) == 16.0
    assert trace.norms == pytest.approx([2.0], rel=1e-2 if precision == "bf16-true" else 1e-6)


@pytest.mark.parametrize("norm", [1e30, 1e-30])
def test_extreme_gradients_are_measured_and_are_no_fault(kit, norm):
    detectors = [ExplosionDetector(), VanishingDetector(dead_steps=3)]
    trace = kit.pull([norm] * 6, [*detectors, GradientNormLogger()], lambda p: torch.optim.SGD(p, lr=0.0))
    assert totals(trace) == pytest.approx(norm)
    assert kit.found(*detectors) == []


@pytest.mark.parametrize("law", [NormClip(max_norm=2.0), ValueClip(value=1.0)], ids=repr)
def test_a_gradient_of_1e30_is_clipped(kit, law):
    trace = kit.pull([1e30], [AdaptiveClipper(law)])
    assert trace.norms == pytest.approx([2.0])


def test_a_gradient_that_single_precision_takes_for_zero_still_meets_an_absolute_limit(kit):
    detector = VanishingDetector(min_norm=1e-32)
    kit.pull([1e-30, 1e-34], [detector])
    assert kit.found(detector) == [("vanishing", "alarm", 1)]


def test_a_step_after_one_that_the_scaler_skipped_in_the_same_batch_is_a_step_of_its_own(kit):
    class Twice(kit.Lever):
        automatic_optimization = False

        def __init__(self):
            super().__init__(lambda p: torch.optim.SGD(p, lr=0.125))
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            for factor in (math.inf, 8.0):
                optimizer.zero_grad()
                self.manual_backward(self.w.sum() * (factor if batch_idx == 0 else 8.0))
                optimizer.step()

    precision = importlib.import_module(f"{kit.pl.__name__}.plugins.precision").MixedPrecision
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    clipper = AdaptiveClipper(NormClip(max_norm=1.0))
    kit.fit(Twice(), [clipper], -1, kit.column([1.0] * 3), max_epochs=1, plugins=[precision("16-mixed", "cpu", scaler)])
    assert clipper.interventions["clipped"].steps == 5  # of six, the first was not finite
