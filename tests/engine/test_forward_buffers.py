# SPDX-License-Identifier: Apache-2.0
"""A step that is skipped leaves the module's statistics as they were, too."""

import math

import pytest
import torch
from torch import nn

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, VanishingDetector
from lightning_gradwatch.engine.forward_buffers import ForwardBuffers


def normed(kit, layer=None):
    class Normed(kit.Net):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(self.net[0], layer or nn.BatchNorm1d(8), *self.net[1:])

    torch.manual_seed(1)
    return Normed()


def broken(kit, *batches, batch_count=8):
    loader = kit.rows(batch_count)
    for batch in batches:
        loader.dataset.tensors[0][8 * batch] *= math.nan
    return loader


def buffers(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


@pytest.mark.parametrize("callbacks", [[ExplosionDetector()], [AdaptiveClipper()]])
def test_a_skipped_step_puts_running_statistics_back(kit, callbacks):
    skipped, sound = normed(kit), normed(kit)
    kit.fit(skipped, callbacks, 8, broken(kit, 7))
    kit.fit(sound, [], 7)
    for name, buffer in buffers(sound).items():
        assert torch.equal(buffers(skipped)[name], buffer), name


def test_all_batches_of_an_accumulated_step_are_put_back(kit):
    skipped, sound = normed(kit), normed(kit)
    kit.fit(skipped, [ExplosionDetector()], 4, broken(kit, 7), accumulate_grad_batches=2)
    kit.fit(sound, [], 3, accumulate_grad_batches=2)
    for name, buffer in buffers(sound).items():
        assert torch.equal(buffers(skipped)[name], buffer), name


def test_a_stopped_run_keeps_the_statistics_from_before(kit):
    module = normed(kit)
    kit.fit(module, [ExplosionDetector(nonfinite="stop")], 8, broken(kit, 5))
    assert all(buffer.isfinite().all() for buffer in module.buffers())


class Counting(nn.Module):
    """Keeps the largest input that it has seen, as a codebook or an observer would."""

    def __init__(self):
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x):
        self.largest.copy_(torch.maximum(self.largest, x.detach().abs().max()))
        return x


def test_other_buffers_that_a_forward_pass_changes_are_found(kit):
    module = normed(kit, Counting())
    kit.fit(module, [ExplosionDetector()], 8, broken(kit, 7))
    assert module.net[1].largest.isfinite()


def test_watching_without_skipping_copies_nothing(kit, monkeypatch):
    monkeypatch.setattr(ForwardBuffers, "begin_batch", lambda *_: pytest.fail("copied"))
    kit.fit(normed(kit), [ExplosionDetector(nonfinite="warn"), VanishingDetector()], 3)


def test_on_a_device_that_knows_more_than_the_host_the_copy_is_chosen_there():
    net = nn.BatchNorm1d(2)
    kept = ForwardBuffers()
    kept.begin_batch(net)
    net(torch.full((4, 2), torch.nan))
    kept.restore(torch.tensor(0.0))
    assert net.running_mean.isnan().all()
    kept.restore(torch.tensor(1.0))
    assert net.running_mean.tolist() == [0.0, 0.0]
    assert net.num_batches_tracked == 0


def test_a_step_that_a_scaler_skips_is_put_back_only_where_it_broke_something():
    net = nn.BatchNorm1d(2)
    kept = ForwardBuffers()
    kept.begin_batch(net)
    net(torch.ones(4, 2))
    kept.restore(torch.tensor(1.0), only_broken=True)
    assert net.running_mean.tolist() == pytest.approx([0.1, 0.1])
    net(torch.full((4, 2), torch.nan))
    kept.restore(torch.tensor(1.0), only_broken=True)
    assert net.running_mean.tolist() == [0.0, 0.0]
