# SPDX-License-Identifier: Apache-2.0
"""`LRDecay`: the effective learning rate is the scheduler's own times the scale, and the scheduler's own stays.

The gradient of a Lever pulled by 2 has entries of 1, so what a weight loses in a step of SGD is the effective rate.
"""

import pytest
import torch
from torch.optim import lr_scheduler as sched

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, LRDecay, VanishingDetector
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks

LR, STEPS = 0.125, 12
SCHEDULERS = {
    "none": None,
    "StepLR": lambda o: sched.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: sched.MultiStepLR(o, [2, 7], 0.5),
    "ExponentialLR": lambda o: sched.ExponentialLR(o, 0.9),
    "MultiplicativeLR": lambda o: sched.MultiplicativeLR(o, lambda i: 0.9),
    "LambdaLR": lambda o: sched.LambdaLR(o, lambda i: 1 / (1 + i)),
    "CosineAnnealingLR": lambda o: sched.CosineAnnealingLR(o, 12),
    "CosineAnnealingWarmRestarts": lambda o: sched.CosineAnnealingWarmRestarts(o, 4),
    "LinearLR": lambda o: sched.LinearLR(o, total_iters=6),
    "ConstantLR": lambda o: sched.ConstantLR(o, total_iters=4),
    "PolynomialLR": lambda o: sched.PolynomialLR(o, total_iters=10),
    "OneCycleLR": lambda o: sched.OneCycleLR(o, 0.5, total_steps=20),
    "CyclicLR": lambda o: sched.CyclicLR(o, 0.1, 0.5, step_size_up=3),
    "ChainedScheduler": lambda o: sched.ChainedScheduler([sched.StepLR(o, 3, 0.5), sched.LinearLR(o, total_iters=6)]),
    "SequentialLR": lambda o: sched.SequentialLR(
        o, [sched.LinearLR(o, total_iters=4), sched.ExponentialLR(o, 0.9)], milestones=[4]
    ),
    "ReduceLROnPlateau": lambda o: sched.ReduceLROnPlateau(o, patience=0, factor=0.5, mode="max"),
}


def rates(kit, callbacks, make=None, lever=None, norms=(2.0,) * STEPS, lr=LR, **settings):
    """The effective rate of each step, and what the optimizer's group says after it; in double precision."""

    class Scheduled(lever or kit.Lever):
        def training_step(self, batch, batch_idx):
            self.log("loss", 1.0 - batch_idx)
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=lr)
            if make is None:
                return optimizer
            return [optimizer], [{"scheduler": make(optimizer), "interval": "step", "monitor": "loss"}]

    class Rates(kit.Trace):
        def __init__(self):
            super().__init__()
            self.own = []

        def on_train_batch_end(self, trainer, pl_module, *args):
            super().on_train_batch_end(trainer, pl_module, *args)
            self.own.append(float(trainer.optimizers[0].param_groups[0]["lr"]))

    trace = Rates()
    kit.fit(Scheduled(), [*callbacks, trace], len(norms), kit.column(norms), precision="64-true", **settings)
    weights = torch.stack([torch.ones(4, dtype=torch.float64), *trace.weights])
    return (-weights.diff(dim=0)[:, 0]).tolist(), trace.own


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_beside_any_scheduler_the_rate_is_its_own_times_the_scale(kit, make):
    plain, own = rates(kit, [], make)
    scaled, own_too = rates(kit, [LRDecay(gamma=0.5, every=3)], make)
    assert scaled == pytest.approx([rate * 0.5 ** (i // 3) for i, rate in enumerate(plain)], rel=1e-9)
    assert own == own_too


def test_beside_warm_up_code_in_optimizer_step(kit):
    class WarmUp(kit.Lever):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (batch_idx + 1)
            optimizer.step(closure=optimizer_closure)

    effective, own = rates(kit, [LRDecay(gamma=0.5, every=2)], lever=WarmUp)
    assert effective == pytest.approx([0.01 * (i + 1) * 0.5 ** (i // 2) for i in range(STEPS)], rel=1e-9)
    assert own == pytest.approx([0.01 * (i + 1) for i in range(STEPS)])


def test_beside_warm_up_code_in_training_step(kit):
    class WarmUp(kit.Lever):
        def training_step(self, batch, batch_idx):
            self.trainer.optimizers[0].param_groups[0]["lr"] = 0.01 * (batch_idx + 1)
            return super().training_step(batch, batch_idx)

    effective, own = rates(kit, [LRDecay(gamma=0.5, every=2)], lever=WarmUp)
    assert effective == pytest.approx([0.01 * (i + 1) * 0.5 ** (i // 2) for i in range(STEPS)], rel=1e-9)
    assert own == pytest.approx([0.01 * (i + 1) for i in range(STEPS)])


def test_once_per_epoch_and_never_floored(kit):
    decay = LRDecay(gamma=0.01, on=(), min_scale=0.5)
    effective, _ = rates(kit, [decay], norms=(2.0,) * 3)
    assert effective == pytest.approx([LR] * 3)
    log = kit.Memory()
    kit.fit(kit.Lever(), [LRDecay(gamma=0.01, on=())], steps=8, loader=kit.column([2.0] * 2), logger=log)
    assert list(log.points["grad_lr/scale"].values()) == pytest.approx([1, 1, 1e-2, 1e-2, 1e-4, 1e-4, 1e-6, 1e-6])
    assert list(log.points["grad_lr/group0"].values())[-1] == pytest.approx(LR * 1e-6)


def test_two_instances_multiply(kit):
    both = [LRDecay(gamma=0.5, every=1, name="a"), LRDecay(gamma=0.1, every=2, name="b")]
    effective, own = rates(kit, both, norms=(2.0,) * 4)
    assert effective == pytest.approx([LR, LR * 0.5, LR * 0.25 * 0.1, LR * 0.125 * 0.1])
    assert own == [LR] * 4


def test_a_spike_backs_off_holds_and_rewarms(kit):
    decay = LRDecay(backoff=0.25, cooldown_steps=0, hold_steps=2, rewarm_steps=2, patience=1)
    effective, own = rates(kit, [decay, ExplosionDetector(action="skip")], norms=[2.0] * 30 + [200.0] + [2.0] * 5)
    # The spike itself is skipped; one more held step, then geometrically back in two.
    assert effective[29:] == pytest.approx([LR, 0.0, LR * 0.25, LR * 0.5, LR, LR, LR])
    assert set(own) == {LR}


ACTORS = {
    "skipped": lambda: [ExplosionDetector(action="skip")],
    "clipped to its limit": lambda: [ExplosionDetector(action="clip")],
    "clipped by a law": lambda: [ExplosionDetector(), AdaptiveClipper()],
}


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("make", ACTORS.values(), ids=ACTORS)
def test_harm_that_was_prevented_backs_off_only_in_streaks(kit, monkeypatch, make, late):
    if late:
        monkeypatch.setattr(OptimizerHooks, "on_cuda", property(lambda self: True))

    class Scales(kit.pl.Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, *_):
            self.seen.append(decay.state_dict()["scales"][0]["value"])

    for norms, backs_off in (([2.0, 200.0] * 5, False), ([200.0] * 3 + [2.0], False), ([200.0] * 3 + [2.0] * 2, True)):
        decay, scales = LRDecay(backoff=0.25, patience=3 if backs_off else 4), Scales()
        kit.pull([2.0] * 30 + norms, [*make(), decay, scales], lambda p: torch.optim.SGD(p, lr=LR, fused=True))
        assert (min(scales.seen) == 0.25) == backs_off


def test_a_nan_now_and_then_that_was_skipped_is_no_reason_to_slow_down(kit):
    decay = LRDecay()
    kit.pull(([2.0] * 20 + [float("nan")]) * 4, [decay, ExplosionDetector()])
    assert decay.state_dict()["scales"][0]["value"] == 1.0


def test_harm_that_was_not_prevented_backs_off_at_once(kit):
    decay, detector = LRDecay(), ExplosionDetector()
    kit.pull([2.0] * 30 + [2e5, 2.0], [decay, detector])  # no batch does that to a sound run: an alarm
    assert not detector.events[0].prevented
    assert decay.state_dict()["scales"][0]["value"] == 0.5


def test_a_spike_that_may_be_an_outlier_does_not_and_no_new_level_of_the_run(kit):
    decay, detector = LRDecay(), ExplosionDetector()
    kit.pull([2.0] * 30 + [200.0, *[2.0] * 20, *[200.0] * 20], [decay, detector])
    assert [event.kind.value for event in detector.events].count("level_shift") == 1
    assert decay.state_dict()["scales"][0]["value"] == 1.0


def test_only_the_kinds_that_it_listens_to_back_off(kit):
    norms = [2.0] * 30 + [200.0] + [2.0] * 2
    effective, _ = rates(kit, [LRDecay(on=["vanishing"]), ExplosionDetector()], norms=norms)
    assert effective[31:] == pytest.approx([LR, LR])


def test_an_information_does_not_back_off(kit):
    decay = LRDecay(on=["level_shift"])
    effective, _ = rates(kit, [decay, ExplosionDetector()], norms=[2.0] * 30 + [24.0] * 8)
    assert effective[-1] == pytest.approx(LR * 12)


def test_any_callback_of_the_users_may_trigger_it_by_an_event(kit):
    detector = VanishingDetector(min_norm=1e-3)
    effective, _ = rates(kit, [LRDecay(on=["vanishing"], backoff=0.5), detector], norms=[2.0, 1e-4, 2.0])
    assert effective[2] == pytest.approx(LR / 2)


def test_each_group_is_scaled_and_shown_by_name(kit):
    def groups(parameters):
        first, *rest = parameters
        return torch.optim.SGD([{"params": [first], "lr": 0.5, "name": "slow"}, {"params": rest}], lr=0.25)

    log = kit.Memory()
    trainer = kit.fit(kit.net(groups), [LRDecay(gamma=0.5, every=1)], steps=3, logger=log)
    assert list(log.points["grad_lr/slow"].values()) == [0.5, 0.25, 0.125]
    assert list(log.points["grad_lr/group1"].values()) == [0.25, 0.125, 0.0625]
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [0.5, 0.25]


def test_a_resume_never_applies_it_twice(kit, tmp_path):
    def run(steps, **settings):
        module = kit.Lever(lambda p: torch.optim.SGD(p, lr=LR))
        return module, kit.fit(module, [LRDecay(gamma=0.5, every=2)], steps, kit.column([2.0] * 8), **settings)

    whole, _ = run(8)
    _, half = run(5)
    half.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == LR
    resumed, _ = run(8, ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(whole.w, resumed.w)
    assert (1 - whole.w[0]).item() == pytest.approx(LR * 2 * (1 + 0.5 + 0.25 + 0.125))


def test_a_tensor_rate_is_changed_in_place(kit):
    rate = torch.tensor(LR)
    module = kit.Lever(lambda p: torch.optim.SGD(p, lr=rate, foreach=False))
    trainer = kit.fit(module, [LRDecay(gamma=0.5, every=1)], 3, kit.column([2.0] * 3))
    assert trainer.optimizers[0].param_groups[0]["lr"] is rate
    assert rate.item() == LR
    assert (1 - module.w[0]).item() == pytest.approx(LR * 1.75)


def test_lbfgs_takes_it_from_the_next_step_on(kit):
    # It reads the rate before its closure. Entries of 1, so its very first step is the rate over their sum, 4.
    trace = kit.Trace()
    module = kit.Lever(lambda p: torch.optim.LBFGS(p, lr=LR, max_iter=1))
    trainer = kit.fit(module, [LRDecay(gamma=0.5, every=1), trace], 4, kit.column([2.0] * 4), precision="64-true")
    weights = torch.stack([torch.ones(4, dtype=torch.float64), *trace.weights])
    assert (-weights.diff(dim=0)[:, 0]).tolist() == pytest.approx([LR / 4, LR, LR * 0.5, LR * 0.25])
    assert trainer.optimizers[0].param_groups[0]["lr"] == LR
