# SPDX-License-Identifier: Apache-2.0
"""`action="clip"` and `AdaptiveClipper`: exactly the limit that was broken is left."""

import math

import pytest
import torch

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, NormClip, UnitwiseClip, ValueClip

LAWS = ("norm", "value", "percentile", "zscore", "unitwise")


def test_a_broken_max_norm_leaves_exactly_max_norm(kit):
    detector = ExplosionDetector(action="clip", max_norm=2.0)
    trace = kit.pull([1.0, 8.0, 2.0, 16.0], [detector])
    assert trace.norms == pytest.approx([1.0, 2.0, 2.0, 2.0], rel=1e-6)
    assert [(e.kind, e.step, e.action_taken) for e in detector.events] == [
        ("explosion", 1, "clipped x0.25; training continues"),
        ("explosion", 3, "clipped x0.12; training continues"),
    ]


def test_a_broken_max_abs_leaves_a_largest_entry_of_max_abs(kit):
    trace = kit.pull([8.0], [ExplosionDetector(action="clip", max_abs=1.0)])  # entries of 4
    assert trace.module.w.grad.abs().max().item() == pytest.approx(1.0, rel=1e-6)


def test_a_spike_is_clipped_to_its_limit(kit):
    detector = ExplosionDetector(action="clip")
    trace = kit.pull([1.0] * 30 + [50.0, 1.0], [detector])
    assert detector.events[0].limit == pytest.approx(10.0)  # times the median
    assert trace.norms[30:] == pytest.approx([10.0, 1.0], rel=1e-6)


def test_of_two_broken_limits_the_tighter_one_is_left(kit):
    trace = kit.pull([16.0], [ExplosionDetector(action="clip", max_norm=4.0, max_abs=1.0)])
    assert trace.norms == pytest.approx([2.0], rel=1e-6)


def test_what_is_known_only_after_the_step_warns_instead(kit):
    detector = ExplosionDetector(action="clip", ignore=["spike"])
    kit.fit(kit.net(lambda p: torch.optim.SGD(p, lr=1e3)), [detector], steps=3)
    (late,) = detector.events
    assert late.kind == "update_too_large"
    assert late.action_taken == 'nothing (action="warn") (what is known only after the step cannot be clipped)'


@pytest.mark.parametrize("order", [1, -1])
def test_two_clippers_at_1_leave_1(kit, order):
    clippers = [AdaptiveClipper(NormClip(max_norm=1.0), name=name) for name in "ab"]
    assert kit.pull([8.0, 0.5], clippers[::order]).norms == pytest.approx([1.0, 0.5], rel=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_the_smallest_factor_wins(kit, order):
    detector = ExplosionDetector(action="clip", max_norm=4.0)
    clippers = [AdaptiveClipper(NormClip(max_norm=2.0)), detector]
    assert kit.pull([16.0, 3.0, 1.0], clippers[::order]).norms == pytest.approx([2.0, 2.0, 1.0], rel=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_an_element_wise_law_comes_first_and_the_norm_law_sees_what_it_left(kit, order):
    # Entries 8 are cut to 1, which leaves a norm of 2; the norm law at 4 then has nothing to do, that at 1 halves it.
    value = AdaptiveClipper(ValueClip(value=1.0), name="value")
    for limit, left in ((4.0, 2.0), (1.0, 1.0)):
        clippers = [value, AdaptiveClipper(NormClip(max_norm=limit), name="norm")]
        assert kit.pull([16.0], clippers[::order]).norms == pytest.approx([left], rel=1e-6)


def test_each_parameter_gets_the_smallest_factor_that_speaks_of_it(kit):
    module = kit.net()
    first = AdaptiveClipper(NormClip(max_norm=1e-3), include="net.0.*", name="first")
    matrices = AdaptiveClipper(NormClip(max_norm=1e-2), include="*.weight", name="matrices")
    kit.fit(module, [first, matrices], steps=1)
    norm = {name: p.grad for name, p in module.named_parameters()}
    assert torch.linalg.vector_norm(torch.stack([norm[f"net.0.{n}"].norm() for n in ("weight", "bias")])) <= 1e-3
    assert norm["net.5.bias"].norm() > 1e-2  # nobody spoke of it
    assert norm["net.5.weight"].norm() < 1e-2


@pytest.mark.parametrize("max_norm", [1.0, 10.0])
def test_norm_clip_is_gradient_clip_val(kit, max_norm):
    clipped = kit.pull([0.5, 4.0, 64.0], [AdaptiveClipper(NormClip(max_norm=max_norm))])
    own = kit.pull([0.5, 4.0, 64.0], gradient_clip_val=max_norm)
    assert torch.allclose(clipped.weights[-1], own.weights[-1], rtol=1e-6, atol=0)


def test_value_clip_is_the_value_algorithm(kit):
    clipped = kit.pull([0.5, 4.0, 64.0], [AdaptiveClipper(ValueClip(value=0.5))])
    own = kit.pull([0.5, 4.0, 64.0], gradient_clip_val=0.5, gradient_clip_algorithm="value")
    assert torch.equal(clipped.weights[-1], own.weights[-1])


def test_the_direction_only_rule_divides_by_the_norm(kit):
    law = NormClip(max_norm=10, target_norm=1)
    assert kit.pull([9.0, 20.0, 1000.0], [AdaptiveClipper(law)]).norms == pytest.approx([9.0, 1.0, 1.0], rel=1e-6)


def test_per_group_limits_each_group_for_itself(kit):
    def groups(parameters):
        first, *rest = parameters
        return torch.optim.SGD([{"params": [first]}, {"params": rest}], lr=0.01)

    module = kit.net(groups)
    kit.fit(module, [AdaptiveClipper(NormClip(max_norm=1e-3), per="group")], steps=1)
    first, *rest = [p.grad for p in module.parameters()]
    assert first.norm().item() == pytest.approx(1e-3, rel=1e-2)
    assert torch.nn.utils.get_total_norm(rest).item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("law", LAWS)
def test_every_law_reaches_a_sparse_gradient(kit, law):
    class Words(type(kit.net())):
        """Two rows are looked up twice."""

        def __init__(self, optimizer):
            super().__init__(optimizer)
            self.net = torch.nn.Embedding(10, 3, sparse=True)

        def training_step(self, batch, batch_idx):
            return (self.net(torch.tensor([1, 1, 4, 4, 7])) * (1000.0 if batch_idx == 60 else 1.0)).sum()

    module = Words(lambda p: torch.optim.SGD(p, lr=1e-6))
    raw = 1000.0 * math.sqrt(3 * (4 + 4 + 1))
    kit.fit(module, [AdaptiveClipper(law)], steps=61, loader=kit.rows(61, 1))
    left = module.net.weight.grad
    assert left.is_sparse
    assert 0 < left.coalesce().values().norm().item() < raw / 10


@pytest.mark.parametrize("law", ["percentile", "zscore"])
def test_a_lasting_shift_of_the_level_is_not_clipped_for_ever(kit, law):
    norms = [1.0 + 0.01 * (i % 7) for i in range(80)] + [12.0 + 0.1 * (i % 7) for i in range(200)]
    after = kit.pull(norms, [AdaptiveClipper(law)], lambda p: torch.optim.SGD(p, lr=0.0)).norms
    assert sum(a < b * 0.999 for a, b in zip(after[-50:], norms[-50:], strict=True)) <= 2


@pytest.mark.parametrize("law", LAWS[:-1])  # all but "unitwise", which leaves vectors alone
def test_no_law_lets_nonfinite_gradients_through_or_is_blinded_by_them(kit, law):
    norms = [1.0, math.nan, 1.0, math.inf] * 10 + [1.0] * 60 + [1000.0]
    trace = kit.pull(norms, [AdaptiveClipper(law)], lambda p: torch.optim.SGD(p, lr=1e-3))
    assert trace.norms[1] is None
    assert trace.norms[3] is None
    assert trace.weights[-1].isfinite().all()
    assert trace.norms[-1] < 10


def test_unitwise_leaves_each_row_at_its_share_of_the_weights(kit):
    module = kit.net()
    kit.fit(module, [AdaptiveClipper(UnitwiseClip(clipping=1e-3))], steps=1)
    for layer in (module.net[0], module.net[3]):
        before = layer.weight.detach() + 0.125 * layer.weight.grad  # the step undone
        limit = 1e-3 * before.norm(dim=1).clamp(min=1e-3)
        assert (layer.weight.grad.norm(dim=1) <= limit * 1.001).all()
