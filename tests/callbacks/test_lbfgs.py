# SPDX-License-Identifier: Apache-2.0
"""LBFGS evaluates its closure several times per step and moves the weights in between."""

import math

import pytest
import torch

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientExplosionError, NormClip

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


def test_every_closure_of_lbfgs_is_judged(kit):
    detector = ExplosionDetector(max_norm=1e-9)
    module = bowl(kit)
    kit.fit(module, [detector], steps=2, loader=kit.column([0.0] * 2))
    assert len(detector.events) == module.closures == 8
    assert {event.step for event in detector.events} == {0, 1}


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


def test_clipping_works_within_closures(kit):
    module = bowl(kit)
    trace = kit.Trace()
    kit.fit(module, [AdaptiveClipper(NormClip(max_norm=0.5)), trace], steps=1, loader=kit.column([0.0]))
    assert trace.norms == [pytest.approx(0.5)]
