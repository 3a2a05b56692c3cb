# SPDX-License-Identifier: Apache-2.0
"""`AdaptiveClipper` and `LRDecay` keep a step from moving the weights further than they can bear, from the first on.

The weights of a Lever have a norm of 2, and no matrix; at a rate of 0.125 a norm of 4.8 would move them by 0.3.
"""

import pytest
import torch

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    LRDecay,
    NormClip,
    PercentileClip,
    ZScoreClip,
)
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.laws import AutoClip, ZClip
from lightning_gradwatch.measurement.meter import Meter

LEARNING = {"default": {}, "zscore": {"law": ZScoreClip()}, "percentile": {"law": PercentileClip()}}
EXACT = {
    "norm": NormClip(max_norm=1e9),
    "published zclip": ZClip(),
    "published autoclip": AutoClip(),
    "value": "value",
    "unitwise": "unitwise",
}
SGD = {"plain": {}, "momentum": {"momentum": 0.9}, "fused": {"fused": True}}


def moved(trace):
    """The relative update of the first step."""
    return (trace.weights[0] - 1.0).norm().item() / 2


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("options", SGD.values(), ids=SGD)
@pytest.mark.parametrize("how", LEARNING.values(), ids=LEARNING)
def test_a_bad_first_batch_does_not_ruin_the_weights(kit, monkeypatch, how, options, late):
    if late:
        monkeypatch.setattr(OptimizerHooks, "on_cuda", property(lambda self: True))
    trace = kit.pull([1e6, 1.0], [AdaptiveClipper(**how)], lambda p: torch.optim.SGD(p, lr=0.125, **options))
    share = 1 - options.get("momentum", 0.0)  # momentum does the rest later
    assert moved(trace) == pytest.approx(0.001 * share, rel=1e-3)


def test_what_the_weights_can_bear_is_left_as_it_is(kit):
    norms = [4.0, 4.5, 3.0, 4.0]
    bounded, bare = (kit.pull(norms, callbacks).weights for callbacks in ([AdaptiveClipper()], []))
    assert all(torch.equal(a, b) for a, b in zip(bounded, bare, strict=True))


@pytest.mark.parametrize("law", EXACT.values(), ids=EXACT)
def test_beside_an_exact_law_nothing_else_acts(law):
    assert AdaptiveClipper(law).max_update_ratio is None


def test_it_acts_beside_an_exact_law_where_it_is_asked_for(kit):
    clipper = AdaptiveClipper(NormClip(max_norm=1e9), max_update_ratio=0.06)
    assert moved(kit.pull([1.92], [clipper])) == pytest.approx(0.03, rel=1e-4)  # 0.06**2 / 0.12


def test_without_a_limit_the_first_step_is_whatever_it_is(kit):
    assert moved(kit.pull([1e6], [AdaptiveClipper(max_update_ratio=None)])) > 1e4


@pytest.mark.parametrize("given", [0, -1.0, "never", float("nan"), True])
def test_a_bad_ratio_is_refused(given):
    with pytest.raises((TypeError, ValueError), match='`max_update_ratio` must be "auto", None or a number above 0'):
        AdaptiveClipper(max_update_ratio=given)


def test_it_counts_after_the_law_and_a_back_off(kit):
    # The law takes 80 back to 10 times the first norm; the halved rate makes 4.8 bearable.
    decay = LRDecay(on=["vanishing"], gamma=0.5, every=1)
    norms = [0.48, 80.0]
    trace = kit.pull(norms, [AdaptiveClipper(), decay])
    assert trace.norms == pytest.approx([0.48, 4.8], rel=1e-5)


def test_statistics_are_fed_with_norms_before_the_bound(kit):
    clipper = AdaptiveClipper()
    kit.pull([1e3] * 3, [clipper])
    assert clipper.state_dict()["laws"][0, 0]["warmup"] == [1e3] * 3


def test_how_far_a_layer_in_trouble_has_come_is_seen_at_each_step(kit, monkeypatch):
    weighed = []
    measure = Meter.weight_norms
    monkeypatch.setattr(Meter, "weight_norms", lambda meter, of=None: weighed.append(1) or measure(meter, of))
    kit.fit(kit.Lever(), [AdaptiveClipper()], 8, kit.column([2.0] * 8))
    calm = len(weighed)
    kit.fit(kit.Lever(), [AdaptiveClipper()], 8, kit.column([400.0] * 8))
    assert (calm, len(weighed) - calm) == (1, 7)  # of the first step it is known after the second begins


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("size", [40.0, 400.0])
def test_a_resumed_run_remembers_which_layers_were_beyond(kit, tmp_path, monkeypatch, size, late):
    if late:
        monkeypatch.setattr(OptimizerHooks, "on_cuda", True)

    class Save(kit.pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 5:
                trainer.save_checkpoint(tmp_path / "part.ckpt")

    def run(callbacks, ckpt_path=None):
        module = kit.Lever(lambda parameters: torch.optim.SGD(parameters, lr=0.125, fused=late))
        loader = kit.column([size, size, 2.0, size, *[2.0] * 20])
        kit.fit(module, [AdaptiveClipper(), *callbacks], 24, loader, ckpt_path=ckpt_path)
        return module.w

    assert torch.equal(run([Save()]), run([], tmp_path / "part.ckpt"))


def first_step(kit, optimizer, callbacks):
    """The largest relative update of a matrix in the first step, and the module."""
    module = kit.net(optimizer)
    before = [p.detach().clone() for p in module.parameters() if p.ndim > 1]
    trainer = kit.fit(module, callbacks, steps=1)
    after = [p.detach() for p in module.parameters() if p.ndim > 1]
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(after, before, strict=True)), trainer


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_adams_first_step_is_held_to_what_the_weights_can_bear(kit, monkeypatch, fused, late):
    def optimizer(parameters):
        return torch.optim.Adam(parameters, lr=3.0, fused=fused)

    if late:
        monkeypatch.setattr(OptimizerHooks, "on_cuda", property(lambda self: True))
    free, _ = first_step(kit, optimizer, [])
    held, trainer = first_step(kit, optimizer, [LRDecay(), ExplosionDetector()])
    assert free > 3
    assert held < 0.06
    assert trainer.optimizers[0].param_groups[0]["lr"] == 3.0


def test_the_effective_rate_is_logged(kit):
    log = kit.Memory()
    module = kit.net(lambda p: torch.optim.Adam(p, lr=3.0))
    kit.fit(module, [LRDecay(), ExplosionDetector()], steps=2, logger=log)
    rate, scale = (next(iter(log.points[f"grad_lr/{name}"].values())) for name in ("group0", "scale"))
    assert rate == pytest.approx(3.0 * scale)
    assert scale < 0.1


@pytest.mark.parametrize("how", [{"max_update_ratio": None}, {"on": ["spike"]}], ids=["off", "other events"])
def test_adams_rate_is_left_alone_where_it_is_not_asked_for(kit, how):
    def optimizer(parameters):
        return torch.optim.Adam(parameters, lr=3.0)

    assert first_step(kit, optimizer, [LRDecay(**how), ExplosionDetector()])[0] == first_step(kit, optimizer, [])[0]


def test_a_usual_rate_is_left_alone(kit):
    def run(callbacks):
        module = kit.net(lambda p: torch.optim.Adam(p, lr=1e-2))
        kit.fit(module, callbacks, steps=30)
        return kit.flat(module)

    assert torch.equal(run([LRDecay(), ExplosionDetector()]), run([]))


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_a_rate_that_jumps_does_not_multiply_the_momentum_of_before(kit, monkeypatch, late):
    class Jump(kit.pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            trainer.optimizers[0].param_groups[0]["lr"] = 1e-3 if batch_idx < 30 else 100.0

    def furthest(callbacks):
        trace = kit.pull([1.0] * 50, [Jump(), *callbacks], lambda p: torch.optim.SGD(p, momentum=0.9, fused=True))
        return max((w - v).norm().item() for v, w in zip(trace.weights, trace.weights[1:], strict=False))

    if late:
        monkeypatch.setattr(OptimizerHooks, "on_cuda", property(lambda self: True))
    assert furthest([]) > 100
    assert furthest([AdaptiveClipper(), LRDecay(), ExplosionDetector()]) < 0.05
