# SPDX-License-Identifier: Apache-2.0
"""Gradients that are absent, sparse, shared, complex, frozen for a while, or of nobody's optimizer."""

import math

import pytest
import torch
from torch import nn

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
    NormClip,
    VanishingDetector,
)


def odd(kit, build, loss, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.125)):
    """A module made by `build(module)`, with the loss `loss(module, batch_idx)`."""

    class Odd(kit.pl.LightningModule):
        def __init__(self):
            super().__init__()
            build(self)

        def training_step(self, batch, batch_idx):
            return loss(self, batch_idx)

        def configure_optimizers(self):
            return optimizer(self)

    return Odd()


def fit(kit, module, callbacks, steps=1):
    """The points that a GradientNormLogger logs beside the callbacks."""
    log = kit.Memory()
    kit.fit(module, [*callbacks, GradientNormLogger()], steps=steps, loader=kit.column([1.0] * steps), logger=log)
    return {tag: list(values.values()) for tag, values in log.points.items()}


def levers(*names):
    def build(module):
        for name in names:
            setattr(module, name, nn.Parameter(torch.ones(4)))

    return build


def test_duplicates_in_a_sparse_gradient_are_added_before_they_are_squared(kit):
    def build(module):
        module.words = nn.Embedding(10, 4, sparse=True)

    module = odd(kit, build, lambda m, i: m.words(torch.tensor([3, 3, 5])).sum())
    seen = fit(kit, module, [ExplosionDetector(), VanishingDetector()])
    assert seen["grad_norm/total"] == [pytest.approx(math.sqrt(4 * 4 + 4 * 1))]  # rows of twos and of ones
    assert seen["grad_max/total"] == [2.0]


def test_a_sparse_nan_is_skipped(kit):
    def build(module):
        module.words = nn.Embedding(10, 4, sparse=True)

    module = odd(kit, build, lambda m, i: m.words(torch.tensor([3])).sum() * math.nan)
    before = kit.flat(module)
    fit(kit, module, [ExplosionDetector()])
    assert torch.equal(kit.flat(module), before)


def test_parameters_without_gradient_count_for_nothing(kit):
    module = odd(kit, levers("used", "unused"), lambda m, i: (m.used * 1.5).sum())
    detectors = [ExplosionDetector(action="clip", max_norm=1.0), VanishingDetector(dead_steps=3)]
    seen = fit(kit, module, detectors, steps=5)
    assert seen["grad_norm/total"] == pytest.approx([3.0] * 5)
    assert module.unused.grad is None
    assert seen["grad_norm/unused"] == [0.0] * 5


def test_stale_gradients_outside_of_the_optimizer_are_not_counted(kit):
    # Nobody sets them to zero, so they pile up from step to step.
    module = odd(
        kit,
        levers("mine", "nobodys"),
        lambda m, i: (m.mine * 1.5 + m.nobodys * 100).sum(),
        lambda m: torch.optim.SGD([m.mine], lr=0.125),
    )
    seen = fit(kit, module, [AdaptiveClipper(NormClip(max_norm=3.5))], steps=3)
    assert seen["grad_norm/total"] == pytest.approx([3.0] * 3)
    assert module.nobodys.grad.norm().item() == 600.0
    assert "grad_norm/nobodys" not in seen


def test_shared_weights_are_counted_once(kit):
    def build(module):
        module.into, module.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        module.out.weight = module.into.weight

    module = odd(kit, build, lambda m, i: m.into(torch.ones(4)).sum() + m.out(torch.ones(4)).sum())
    assert fit(kit, module, [ExplosionDetector()])["grad_norm/total"] == [8.0]  # 16 entries of 2


def test_freezing_and_unfreezing_on_the_way(kit):
    def loss(module, batch_idx):
        module.head.requires_grad_(batch_idx % 4 < 2)
        return (module.body * 1.5).sum() + (module.head * 2.0).sum()

    detector = VanishingDetector(dead_steps=3)
    module = odd(kit, levers("body", "head"), loss)
    seen = fit(kit, module, [ExplosionDetector(), detector, AdaptiveClipper()], steps=8)
    assert seen["grad_norm/total"] == pytest.approx(([5.0, 5.0, 3.0, 3.0]) * 2)
    assert kit.found(detector) == []


def test_what_is_frozen_in_exchange_for_something_else_is_noticed(kit):
    def loss(module, batch_idx):
        module.a.requires_grad_(batch_idx < 2)
        module.b.requires_grad_(batch_idx >= 2)
        return (module.a * 1.5).sum() + (module.b * 2.0).sum()

    seen = fit(kit, odd(kit, levers("a", "b"), loss), [ExplosionDetector()], steps=4)
    assert seen["grad_norm/total"] == pytest.approx([3.0, 3.0, 4.0, 4.0])


def test_parameters_may_be_added_to_the_optimizer_on_the_way(kit):
    def loss(module, batch_idx):
        if batch_idx == 2:
            module.trainer.optimizers[0].add_param_group({"params": [module.late]})
        return (module.early * 1.5).sum() + (module.late * 2.0).sum()

    module = odd(kit, levers("early", "late"), loss, lambda m: torch.optim.SGD([m.early], lr=0.125))
    seen = fit(kit, module, [ExplosionDetector(), AdaptiveClipper(per="group")], steps=4)
    assert seen["grad_norm/total"] == pytest.approx([3.0, 3.0, 5.0, 5.0])


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_a_group_of_frozen_parameters_may_be_added_on_the_way(kit, optimizer):
    def loss(module, batch_idx):
        if batch_idx == 2:
            module.trainer.optimizers[0].add_param_group({"params": [module.late.requires_grad_(False)]})
        return (module.early * 1.5).sum()

    module = odd(kit, levers("early", "late"), loss, lambda m: optimizer([m.early], lr=30.0))
    fit(kit, module, [ExplosionDetector(), AdaptiveClipper(per="group"), LRDecay()], steps=4)
    assert [group["lr"] for group in module.trainer.optimizers[0].param_groups] == [30.0, 30.0]


def test_complex_gradients(kit):
    def build(module):
        module.w = nn.Parameter(torch.zeros(2, dtype=torch.complex64))

    module = odd(kit, build, lambda m, i: (m.w * torch.tensor([3.0 + 0j, 4.0j])).real.sum())
    seen = fit(kit, module, [ExplosionDetector(), AdaptiveClipper(NormClip(max_norm=2.5))])
    assert seen["grad_norm/total"] == [pytest.approx(5.0)]
    assert seen["grad_max/total"] == [pytest.approx(4.0)]
    assert module.w.grad.abs().norm().item() == pytest.approx(2.5)


def test_scalars_and_empty_parameters(kit):
    def build(module):
        module.scalar, module.empty = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.zeros(0, 3))

    module = odd(kit, build, lambda m, i: m.scalar * 3 + m.empty.sum())
    log = GradientNormLogger(histograms_every_n_steps=1, name="second")
    assert fit(kit, module, [log, ExplosionDetector()], steps=2)["grad_norm/total"] == [3.0, 3.0]


def test_a_module_wrapped_by_compile_keeps_the_users_names(kit):
    def build(module):
        module.net = torch.compile(nn.Linear(4, 1, bias=False), backend="eager")

    module = odd(kit, build, lambda m, i: m.net(torch.ones(1, 4)).sum())
    assert fit(kit, module, [ExplosionDetector()])["grad_norm/net"] == [2.0]


@pytest.mark.parametrize("kind", ["include", "exclude"])
def test_patterns_choose_what_is_judged_and_clipped(kit, kind):
    pattern = {"include": "big"} if kind == "include" else {"exclude": ["small"]}
    module = odd(kit, levers("big", "small"), lambda m, i: (m.big * 2.0).sum() + (m.small * 1.5).sum())
    detector = ExplosionDetector(action="clip", max_norm=1.0, **pattern)
    fit(kit, module, [detector])
    assert detector.events[0].value == 4.0
    assert (module.big.grad.norm().item(), module.small.grad.norm().item()) == (pytest.approx(1.0), 3.0)
