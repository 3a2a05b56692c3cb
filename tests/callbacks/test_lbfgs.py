# SPDX-License-Identifier: Apache-2.0
"""LBFGS evaluates its closure several times per step and moves the weights in between."""

import math

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientExplosionError,
    GradientNormLogger,
    NormClip,
    default_callbacks,
)

NAN = math.nan


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=4)


class Bowl:
    """A quadratic, so that LBFGS has something to descend; batches say which closures are broken."""

    def training_step(self, batch, batch_idx):
        self.closures = getattr(self, "closures", 0) + 1
        loss = ((self.w - 3) ** 2 * torch.arange(1.0, 5.0)).sum()
        return loss * NAN if self.closures in self.broken else loss


def bowl(kit, *broken):
    return type("BowlLever", (Bowl, kit.Lever), {"broken": broken})(lbfgs)


def test_a_step_of_lbfgs_is_judged_once_however_often_its_closure_runs(kit):
    detector = ExplosionDetector(max_norm=1e-9)
    module = bowl(kit)
    kit.fit(module, [detector], steps=2, loader=kit.column([0.0] * 2))
    assert module.closures == 8
    assert [event.step for event in detector.events] == [0, 1]


@pytest.mark.parametrize("broken", [(1,), (2,), (3,), (4,)], ids=str)
def test_a_broken_closure_restores_weights_and_memory_of_lbfgs(kit, broken):
    module, plain = bowl(kit, *broken), bowl(kit)
    trace, detector = kit.Trace(), ExplosionDetector()
    trainer = kit.fit(module, [detector, trace], steps=3, loader=kit.column([0.0] * 3))
    other = kit.fit(plain, [], steps=2, loader=kit.column([0.0] * 2))
    assert torch.equal(trace.weights[0], torch.ones(4))
    assert torch.equal(module.w, plain.w)  # two good steps, as if the first had never been
    (state,), (other_state,) = (list(t.optimizers[0].state.values()) for t in (trainer, other))
    assert state["func_evals"] == other_state["func_evals"]
    assert {event.kind.value for event in detector.events} == {"nonfinite"}


@pytest.mark.parametrize("action", ["stop", "abort"])
def test_an_end_within_a_closure_restores_the_weights(kit, action):
    module = bowl(kit, 6)  # the second closure of the second step
    trace = kit.Trace()
    try:
        kit.fit(module, [ExplosionDetector(nonfinite=action), trace], steps=4, loader=kit.column([0.0] * 4))
    except GradientExplosionError:
        assert action == "abort"
    assert torch.equal(module.w, trace.weights[0])


@pytest.mark.parametrize("callbacks", [[AdaptiveClipper(NormClip(max_norm=1e-3))], default_callbacks(rescue=True)])
def test_a_search_gets_the_gradients_that_it_saw(kit, said, callbacks):
    module, plain = bowl(kit), bowl(kit)
    kit.fit(module, callbacks, steps=2, loader=kit.column([0.0] * 2))
    kit.fit(plain, [], steps=2, loader=kit.column([0.0] * 2))
    assert torch.equal(module.w, plain.w)
    assert "LBFGS evaluates its gradient several times in a step: nothing is clipped within it" in said()


def test_a_clip_that_a_search_forbids_is_said(kit, said):
    kit.fit(bowl(kit), [ExplosionDetector(action="clip", max_norm=1e-3)], steps=1, loader=kit.column([0.0]))
    assert "did:    nothing (the optimizer searches along its gradients" in said()


class TwoPasses(torch.optim.SGD):
    """Evaluates twice, as SAM does: at the weights, and at weights that were moved along the gradient."""

    def step(self, closure):
        loss = closure()
        before = [p.detach().clone() for p in self.param_groups[0]["params"]]
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.add_(0.01 if p.grad is None else 0.01 * p.grad)
        closure()
        with torch.no_grad():
            for p, old in zip(self.param_groups[0]["params"], before, strict=True):
                p.copy_(old)
        super().step()
        return loss


def test_two_passes_are_one_step(kit):
    logger = kit.Memory()
    callbacks = [GradientNormLogger(every_n_steps=1), ExplosionDetector(max_norm=1e-9)]
    module = type("TwoPassesLever", (Bowl, kit.Lever), {"broken": ()})(lambda p: TwoPasses(p, lr=0.01))
    kit.fit(module, callbacks, steps=3, loader=kit.column([0.0] * 3), logger=logger)
    assert module.closures == 6
    assert [event.step for event in callbacks[1].events] == [0, 1, 2]


def test_a_broken_second_pass_undoes_the_whole_step(kit):
    module = type("TwoPassesLever", (Bowl, kit.Lever), {"broken": (4,)})(lambda p: TwoPasses(p, lr=0.01, momentum=0.9))
    trace = kit.Trace()
    kit.fit(module, [ExplosionDetector(), trace], steps=2, loader=kit.column([0.0] * 2))
    assert torch.equal(module.w, trace.weights[0])
