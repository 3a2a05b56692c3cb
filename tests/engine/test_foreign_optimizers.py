# SPDX-License-Identifier: Apache-2.0
"""Optimizers that are not torch's own: bounded by what was measured, skipped as a whole, left alone where unknown."""

import math

import pytest
import torch
from torch.optim import Optimizer

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradwatchError,
    LRDecay,
    Rewind,
    VanishingDetector,
    default_callbacks,
)

NAN = math.nan


class Sign(Optimizer):
    """Lion without momentum: each entry moves by the learning rate."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr, "betas": (0.9, 0.99), "k": 0})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["k"] += 1
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * p.grad.sign())
                elif group["k"] == 3:
                    p.mul_(0.5)  # as a Lookahead whose turn it is
        return loss


class OwnRate(Sign):
    """Finds its rate by itself, as Prodigy does: `lr` is a mere factor."""

    def __init__(self, parameters):
        super().__init__(parameters, 1.0)
        for group in self.param_groups:
            group["d"] = 1e-4

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] *= group["d"]
        loss = super().step(closure)
        for group in self.param_groups:
            group["lr"] /= group["d"]
        return loss


class Gradient(Sign):
    """Moves by the gradient itself, whose size changes all the time."""

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for i, p in enumerate(group["params"]):
                group["k"] += not i
                p.sub_(group["lr"] * p.grad * 10.0 ** (group["k"] % 4))
        return loss


def test_a_rate_of_an_unknown_optimizer_is_limited_once_its_updates_were_measured(kit):
    decay = LRDecay()
    muted = ExplosionDetector(ignore=["update_too_large", "explosion", "spike"])  # else it backs off after the first
    kit.fit(kit.net(lambda p: Sign(p, 5.0)), [muted, decay], 30, kit.rows(30))
    lowered = decay.interventions["rate_lowered"]
    assert 5 <= lowered.first <= 8
    assert lowered.last == 29


def test_the_same_rate_under_adam_is_limited_from_the_first_step_on(kit):
    decay = LRDecay()
    kit.fit(kit.net(lambda p: torch.optim.Adam(p, 5.0)), [ExplosionDetector(), decay], 10)
    assert decay.interventions["rate_lowered"].first == 0


@pytest.mark.parametrize(
    "optimizer", [OwnRate, lambda p: Sign(p, 1e-3), lambda p: Gradient(p, 1e-4)], ids=["own rate", "sound", "gradient"]
)
def test_what_is_not_known_or_needs_nothing_is_not_touched(kit, optimizer):
    bare, ours = kit.net(optimizer), kit.net(optimizer)
    kit.fit(bare, [], 30, kit.rows(30))
    callbacks = [ExplosionDetector(), VanishingDetector(), LRDecay()]
    kit.fit(ours, callbacks, 30, kit.rows(30))
    assert torch.equal(kit.flat(bare), kit.flat(ours))


class Trial(Sign):
    """Takes two steps at a rate that is far too large, then settles."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = 1.0 if group["k"] < 2 else 1e-4
        return super().step(closure)


class OwnTrial(Trial):
    """Says that it finds the rate by itself, as D-Adaptation does."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr)
        for group in self.param_groups:
            group["d"] = 1e-6


@pytest.mark.parametrize(("optimizer", "found"), [(OwnTrial, []), (Trial, ["update_too_large"])])
def test_trials_of_an_optimizer_that_finds_its_rate_are_no_first_steps_at_a_wrong_one(kit, optimizer, found):
    detector = ExplosionDetector()
    kit.fit(kit.net(lambda p: optimizer(p, 1.0)), [detector], 12, kit.rows(12))
    assert [event.kind for event in detector.events] == found


def test_the_start_says_what_is_not_known(kit, said):
    kit.fit(kit.net(lambda p: Sign(p, 1e-3)), [ExplosionDetector(), LRDecay()], 1)
    assert "Sign is not known: its rate is limited only once its first updates have been measured" in said()
    kit.fit(kit.net(OwnRate), [ExplosionDetector(), LRDecay()], 1)
    assert "OwnRate finds its learning rate by itself: LRDecay leaves it alone" in said()


def test_a_back_off_leaves_a_rate_alone_that_the_optimizer_finds(kit):
    decay = LRDecay(patience=1)
    kit.fit(kit.net(OwnRate), [ExplosionDetector(max_norm=1e-9), LRDecay(patience=1), decay][:2], 5)
    assert "rate_lowered" not in decay.interventions


def test_a_skipped_step_is_a_no_op_for_an_optimizer_that_counts_its_steps(kit):
    loader = kit.rows(3)
    loader.dataset.tensors[0][8 * 2] *= NAN
    module, plain = kit.net(lambda p: Sign(p, 1e-3)), kit.net(lambda p: Sign(p, 1e-3))
    trainer = kit.fit(module, [ExplosionDetector()], 3, loader)
    other = kit.fit(plain, [], 2)
    assert torch.equal(kit.flat(module), kit.flat(plain))
    assert trainer.optimizers[0].param_groups[0]["k"] == other.optimizers[0].param_groups[0]["k"] == 2


class Demanding(Sign):
    """Raises where no parameter has a gradient, as some do."""

    def step(self, closure=None):
        loss = closure() if closure is not None else None
        if all(p.grad is None for group in self.param_groups for p in group["params"]):
            raise RuntimeError("no parameter has a gradient")
        super().step()
        return loss


def test_an_optimizer_that_wants_a_gradient_is_skipped_all_the_same(kit):
    loader = kit.rows(4)
    loader.dataset.tensors[0][8 * 2] *= NAN
    module, plain = kit.net(lambda p: Demanding(p, 1e-3)), kit.net(lambda p: Demanding(p, 1e-3))
    kit.fit(module, [ExplosionDetector()], 3, loader)
    kit.fit(plain, [], 2)
    assert torch.equal(kit.flat(module), kit.flat(plain))


class Relative(Sign):
    """Takes relative steps, and has no learning rate, as transformers' Adafactor does where its authors advise it."""

    def __init__(self, parameters):
        super().__init__(parameters, 1e-3)
        for group in self.param_groups:
            group |= {"lr": None, "relative_step": True}

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = 1e-3
        loss = super().step(closure)
        for group in self.param_groups:
            group["lr"] = None
        return loss


def test_an_optimizer_without_a_learning_rate_trains_and_is_logged(kit):
    logger, bare, ours = kit.Memory(), kit.net(Relative), kit.net(Relative)
    kit.fit(bare, [], 5)
    kit.fit(ours, default_callbacks(rescue=True), 5, logger=logger, log_every_n_steps=1)
    assert torch.equal(kit.flat(bare), kit.flat(ours))
    assert logger.points["grad_norm/total"]


def test_rewind_refuses_states_that_it_could_not_copy_before_the_first_step(kit):
    quantized = type("AdamW8bit", (Sign,), {"__module__": "torchao.optim.adam"})
    with pytest.raises(GradwatchError, match="cannot copy the quantized state of torchao's AdamW8bit"):
        kit.fit(kit.net(lambda p: quantized(p, 1e-3)), [ExplosionDetector(), Rewind()], 1)


def test_what_is_too_large_to_be_copied_is_skipped_without_a_copy(kit, monkeypatch):
    monkeypatch.setattr("lightning_gradwatch.engine.optimizer_hooks.MOST_COPIED", 0)
    monkeypatch.setattr("lightning_gradwatch.engine.optimizer_hooks.Rollback", lambda _: pytest.fail("copied"))
    loader = kit.rows(3)
    loader.dataset.tensors[0][8 * 1] *= NAN
    module = kit.net(lambda p: Sign(p, 1e-3))
    kit.fit(module, [ExplosionDetector()], 2, loader)
    assert kit.flat(module).isfinite().all()


def test_a_subclass_that_steps_as_torch_does_needs_no_copy(kit, monkeypatch):
    class Named(torch.optim.AdamW):
        pass

    monkeypatch.setattr("lightning_gradwatch.engine.optimizer_hooks.Rollback", lambda _: pytest.fail("copied"))
    loader = kit.rows(3)
    loader.dataset.tensors[0][8 * 1] *= NAN
    kit.fit(kit.net(Named), [ExplosionDetector()], 3, loader)


def test_no_optimizer_at_all_is_no_error(kit):
    class Without(kit.Net):
        def configure_optimizers(self):
            return None

    for callbacks in (default_callbacks(rescue=True), [LRDecay(gamma=0.9, on=())]):
        with pytest.warns(UserWarning, match="returned `None`"):
            kit.fit(Without(), callbacks, 2)


def test_sgd_with_dampening_is_not_taken_for_ten_times_as_fast(kit):
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.9)

    bare, ours, clipper = kit.net(sgd), kit.net(sgd), AdaptiveClipper()
    kit.fit(bare, [], 30, kit.rows(30))
    kit.fit(ours, [clipper], 30, kit.rows(30))
    assert "bounded" not in clipper.interventions


class Released(Optimizer):
    """Steps within the backward pass, as with gradient release."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.01})
        for p in self.param_groups[0]["params"]:
            p.register_post_accumulate_grad_hook(self.one)

    def one(self, p):
        with torch.no_grad():
            p.sub_(0.01 * p.grad)
        p.grad = None

    def step(self, closure=None):
        return closure() if closure is not None else None


def test_an_optimizer_that_steps_within_the_backward_pass_is_told(kit, said):
    kit.fit(kit.net(Released), default_callbacks(rescue=True), 3)
    assert "act within the backward pass (gradient release?)" in said()
    assert "nothing to report" not in said()


def test_an_optimizer_that_is_stepped_past_lightning_is_told_at_once(kit, said):
    class Raw(kit.Net):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers(use_pl_optimizer=False)
            optimizer.zero_grad()
            self.net(batch[0]).sum().backward()
            optimizer.step()

    kit.fit(Raw(), [ExplosionDetector()], -1, max_epochs=1)
    assert said().count("was stepped past Lightning") == 1
