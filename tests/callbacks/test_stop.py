# SPDX-License-Identifier: Apache-2.0
"""`action="stop"` ends the fit at once and cleanly; `"abort"` raises after everything was logged."""

import contextlib
import math
import pickle

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientExplosionError,
    GradientNormLogger,
    LRDecay,
    VanishingDetector,
    VanishingGradientError,
)

NAN = math.nan
CALM, BAD = [1.0] * 5, 64.0


def stopper(**kwargs):
    return ExplosionDetector(action="stop", max_norm=8.0, **kwargs)


class Manual:
    """`training_step` for manual optimization, mixed into a module."""

    automatic_optimization = False
    finished = 0

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward((self.w * batch[0].mean() / 2).sum())
        optimizer.step()
        self.finished += 1


def test_the_weights_are_those_from_before_the_bad_step(kit):
    detector = stopper()
    trace = kit.pull([*CALM, BAD, *CALM], [detector])
    assert trace.trainer.global_step == 5
    assert torch.equal(kit.flat(trace.module), trace.weights[4])
    assert len(trace.weights) == 5  # no further batch
    assert detector.tripped is detector.events[-1]
    assert detector.tripped.action_taken == "training stopped, weights from before this step"


@pytest.mark.parametrize(("epochs", "steps"), [(None, 100), (4, None), (4, 100)])
def test_unmet_minima_are_overridden_and_put_back(kit, epochs, steps):
    trainer = kit.pull([*CALM, BAD, *CALM], [stopper()], steps=200, min_epochs=epochs, min_steps=steps).trainer
    assert trainer.global_step == 5
    assert trainer.min_epochs == (epochs or 1)  # Lightning's own default where min_steps is given
    assert trainer.min_steps == steps


def test_no_validation_runs_and_the_ends_of_epoch_and_training_do(kit):
    class Validated(kit.Lever):
        calls = ()

        def validation_step(self, batch, batch_idx):
            self.calls = (*self.calls, "validation_step")

        def on_train_epoch_end(self):
            self.calls = (*self.calls, "on_train_epoch_end")

        def on_train_end(self):
            self.calls = (*self.calls, "on_train_end")

    module = Validated()
    trainer = kit.trainer([stopper()], 20, num_sanity_val_steps=0)
    trainer.fit(module, kit.column([*CALM, BAD]), kit.column([1.0]))
    assert module.calls == ("on_train_epoch_end", "on_train_end")
    assert trainer.state.status == "finished"


def test_manual_optimization_stops_too(kit):
    module = type("ManualLever", (Manual, kit.Lever), {})()
    trainer = kit.fit(module, [stopper()], steps=20, loader=kit.column([*CALM, BAD, *CALM]))
    assert (trainer.global_step, module.finished) == (5, 5)
    assert torch.equal(module.w.detach(), torch.full((4,), 1 - 5 * 0.125 / 2))


@pytest.mark.parametrize("manual", [False, True], ids=["automatic", "manual"])
@pytest.mark.parametrize("action", ["stop", "abort"])
def test_hooks_and_learning_rate_are_left_as_they_were(kit, manual, action):
    bases = (Manual, kit.Lever) if manual else (kit.Lever,)

    class Scheduled(type("AnyLever", bases, {})):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
            return [optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=100)]

    module, caught = Scheduled(), None
    detector = ExplosionDetector(action=action, max_norm=8.0)
    trainer = kit.trainer([LRDecay(gamma=0.5, every=1), detector, VanishingDetector(), GradientNormLogger()], 20)
    try:
        trainer.fit(module, kit.column([*CALM, BAD]))
    except GradientExplosionError as error:
        caught = error
    assert (caught is not None) == (action == "abort")
    (optimizer,) = trainer.optimizers
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_the_trainer_can_fit_again_after_a_stop(kit):
    trace = kit.pull([*CALM, BAD], [stopper()], steps=12)
    trace.trainer.fit(trace.module, kit.column([1.0] * 12))
    assert trace.trainer.global_step == 12


def test_vanishing_stops_below_its_limit(kit):
    detector = VanishingDetector(action="stop", min_norm=1e-3, patience=2)
    trace = kit.pull([1.0, 1e-4, 1.0, 1e-4, 1e-4, 1.0], [detector])
    assert trace.trainer.global_step == 4
    assert kit.found(detector) == [("vanishing", "alarm", 4)]


def test_an_abort_carries_its_event_and_leaves_the_weights(kit):
    detector = ExplosionDetector(action="abort", max_norm=8.0)
    module = kit.Lever()
    with pytest.raises(GradientExplosionError) as caught:
        kit.fit(module, [detector], steps=20, loader=kit.column([*CALM, BAD]))
    event = caught.value.event
    assert (event.kind, event.step, event.value, event.limit) == ("explosion", 5, 64.0, 8.0)
    assert (detector.events[-1], detector.tripped) == (event, event)
    assert pickle.loads(pickle.dumps(caught.value)).event == event
    assert torch.equal(module.w.detach(), torch.full((4,), 1 - 5 * 0.125 / 2))


def test_vanishing_aborts_with_its_own_error(kit):
    with pytest.raises(VanishingGradientError, match="vanishing: step 1"):
        kit.pull([1.0, 1e-9], [VanishingDetector(action="abort", min_norm=1e-3)])


def test_an_abort_beats_a_stop_and_both_beat_a_skip(kit):
    calm = ExplosionDetector(name="skips", action="skip", max_norm=4.0)
    hard = ExplosionDetector(name="aborts", action="abort", max_norm=4.0)
    with pytest.raises(GradientExplosionError):
        kit.pull([1.0, 8.0], [calm, ExplosionDetector(name="stops", action="stop", max_norm=4.0), hard])
    assert [detector.events[-1].action_taken for detector in (calm, hard)] == [
        "training aborted, weights from before this step (1 of at most 5 in a row)",
        "training aborted, weights from before this step",
    ]


def test_the_loggers_hold_everything_before_an_abort(kit, tmp_path):
    log = kit.pl.loggers.CSVLogger(tmp_path, flush_logs_every_n_steps=10_000)
    callbacks = [ExplosionDetector(action="abort", max_norm=8.0), GradientNormLogger(every_n_steps=1)]
    with pytest.raises(GradientExplosionError):
        kit.pull([*CALM, BAD], callbacks, logger=log)
    text = next(tmp_path.rglob("metrics.csv")).read_text()
    header, *lines = [line.split(",") for line in text.splitlines()]
    column = header.index("grad_norm/total")
    assert [float(line[column]) for line in lines if line[column]] == [*CALM, BAD]
    assert "grad_event/explosion" in header


def test_a_checkpoint_on_exception_holds_the_healthy_weights(kit, tmp_path):
    saver = kit.pl.callbacks.ModelCheckpoint(tmp_path, save_on_exception=True, every_n_train_steps=100)
    module = kit.Lever()
    with pytest.raises(GradientExplosionError):
        kit.fit(
            module,
            [saver, ExplosionDetector(nonfinite="abort")],
            steps=9,
            loader=kit.column([*CALM, NAN]),
            enable_checkpointing=True,
        )
    (path,) = tmp_path.glob("*.ckpt")
    saved = torch.load(path, weights_only=True)["state_dict"]["w"]
    assert torch.equal(saved, torch.full((4,), 1 - 5 * 0.125 / 2))


@pytest.mark.parametrize("action", ["stop", "abort"])
def test_an_end_beats_every_clip(kit, action):
    module, clipper = kit.Lever(), AdaptiveClipper("norm")
    with contextlib.suppress(GradientExplosionError):
        kit.fit(module, [clipper, ExplosionDetector(action=action, max_norm=8.0)], 3, kit.column([0.5, BAD, 0.5]))
    assert module.w.grad.norm().item() == BAD
    assert torch.equal(module.w, torch.full((4,), 1 - 0.125 / 4))


@pytest.mark.parametrize("action", ["stop", "abort"])
def test_a_spike_that_only_warns_is_said_to_have_passed(kit, action):
    norms = [1.0 + 0.01 * (i % 5) for i in range(40)] + [30.0, 200.0] + [1.0] * 5
    detector = ExplosionDetector(action=action, max_norm=100.0)
    with contextlib.suppress(GradientExplosionError):
        kit.pull(norms, [detector])
    first, *_ = [event for event in detector.events if event.severity.value != "info"]
    assert (first.severity.value, first.step) == ("warning", 40)
    assert first.action_taken == f"nothing (only an alarm makes action={action!r} act)"
    assert detector.tripped.step == 41
    assert detector.tripped.action_taken.endswith("(the step of the warning at 40 was taken)")
