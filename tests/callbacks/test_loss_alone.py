# SPDX-License-Identifier: Apache-2.0
"""A loss that is NaN while the gradients are finite is told, and nothing more: it is known on one rank only."""

import pytest
import torch

from lightning_gradwatch import ExplosionDetector, LRDecay


def run(kit, callbacks):
    """The weights after eight steps whose loss has the mean over nothing in it."""

    class Module(kit.Lever):
        def training_step(self, batch, batch_idx):
            return (self.w * batch[0].mean()).sum() + torch.empty(0).mean()

    module = Module()
    kit.fit(module, callbacks, 8, kit.column([1.0] * 8))
    return module.w.detach().clone()


@pytest.mark.parametrize("action", ["warn", "skip", "stop", "abort"])
def test_a_loss_alone_warns_once_and_never_acts(kit, said, action):
    detector, decay = ExplosionDetector(action=action, nonfinite=action), LRDecay()
    weights = run(kit, [detector, decay])
    (event,) = [event for event in detector.events if event.severity != "info"]
    assert (event.kind, event.severity, event.step, event.layers) == ("nonfinite", "warning", 0, ())
    assert "WARNING nonfinite: step 0 (epoch 0, batch 0): the loss is NaN, all gradients are finite" in said()
    assert "the inputs are finite" in event.cause
    assert detector.tripped is None
    assert torch.equal(weights, run(kit, []))
