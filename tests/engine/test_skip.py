# SPDX-License-Identifier: Apache-2.0
"""A skipped step is a true no-op, and skipping is bounded."""

import math

import pytest
import torch

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientExplosionError
from lightning_gradwatch.rules.skip_budget import SkipBudget

NAN, INF = math.nan, math.inf
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, fused=True),
    "adam, capturable rate": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.1), foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5, weight_decay=0.1),
}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def state_of(optimizer):
    """Everything an optimizer remembers, copied."""
    return {
        key: value.clone() if isinstance(value, torch.Tensor) else value
        for state in optimizer.state.values()
        for key, value in state.items()
    }


def ignoring(kit, norms, bad, optimizer, callbacks):
    """Weights and optimizer state with the bad steps in, and of a run in which they never came."""
    ends = []
    for pulled, use in ((norms, callbacks), ([n for i, n in enumerate(norms) if i not in bad], [])):
        trace = kit.pull(pulled, use, optimizer)
        ends.append((trace.weights[-1], state_of(trace.trainer.optimizers[0])))
    return ends


def assert_same(ends):
    (weights, state), (other_weights, other_state) = ends
    assert torch.equal(weights, other_weights)
    assert state.keys() == other_state.keys()
    assert all(
        torch.equal(torch.as_tensor(v), torch.as_tensor(other_state[k])) for k, v in state.items() if v is not None
    )


@each_optimizer
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("callback", [ExplosionDetector, AdaptiveClipper], ids=["detector", "clipper"])
def test_a_nonfinite_step_leaves_weights_moments_and_step_count(kit, optimizer, bad, callback):
    quiet = callback("norm") if callback is AdaptiveClipper else callback()
    norms = [0.5, 0.25, bad, 0.5, bad, 0.25]
    assert_same(ignoring(kit, norms, {2, 4}, optimizer, [quiet]))


@each_optimizer
def test_a_first_step_that_is_skipped_leaves_no_state_behind(kit, optimizer):
    trace = kit.pull([NAN], [ExplosionDetector()], optimizer)
    state = state_of(trace.trainer.optimizers[0])
    assert torch.equal(trace.weights[0], torch.ones(4))
    assert all(not torch.as_tensor(value).any() for value in state.values() if value is not None)


@each_optimizer
def test_a_finite_step_over_a_limit_is_skipped_as_well(kit, optimizer):
    detector = ExplosionDetector(action="skip", max_norm=2.0)
    assert_same(ignoring(kit, [0.5, 8.0, 0.25], {1}, optimizer, [detector]))
    assert detector.events[0].action_taken == "step skipped, weights intact (1 of at most 5 in a row)"


def test_a_skip_beats_a_clip(kit):
    callbacks = [AdaptiveClipper("norm"), ExplosionDetector(action="skip", max_norm=2.0)]
    assert kit.pull([8.0, 1.5], callbacks).norms == [None, pytest.approx(1.0, rel=1e-5)]


def test_only_so_many_nonfinite_steps_in_a_row_are_skipped(kit):
    detector = ExplosionDetector(max_skips=3)
    with pytest.raises(GradientExplosionError) as caught:
        kit.pull([1.0, NAN, NAN, NAN, 1.0] + [NAN] * 9, [detector])
    assert caught.value.event.step == 8
    assert caught.value.event.action_taken == (
        "training aborted, weights from before this step (3 steps in a row were skipped already, max_skips=3)"
    )
    assert detector.tripped == caught.value.event


def test_max_skips_of_0_aborts_at_the_first(kit):
    with pytest.raises(GradientExplosionError) as caught:
        kit.pull([1.0, NAN, 1.0], [ExplosionDetector(max_skips=0)])
    assert caught.value.event.step == 1


def test_more_than_50_within_1000_steps_abort(kit):
    with pytest.raises(GradientExplosionError, match="50 of the last 1000 steps were skipped already") as caught:
        kit.pull([1.0, NAN] * 60, [ExplosionDetector()])
    assert caught.value.event.step == 101  # the 51st


def test_50_in_any_1000_steps_never_abort():
    budget, verdicts = SkipBudget(max_skips=20), []
    for step in range(3000):
        budget.next_step()
        if step % 20 == 0:
            verdicts.append(budget.nonfinite()[0])
        else:
            budget.sound()
    assert verdicts == ["skip"] * 150


def test_the_clipper_counts_its_skips_too(kit):
    with pytest.raises(GradientExplosionError, match="max_skips=2"):
        kit.pull([1.0] + [NAN] * 3, [AdaptiveClipper("norm", max_skips=2)])


def test_after_5_finite_skips_in_a_row_a_step_is_let_through_clipped(kit):
    norms = [1.0] * 30 + [1000.0] * 6 + [1.0]
    trace = kit.pull(norms, [ExplosionDetector(action="skip", max_norm=2.0)], lambda p: torch.optim.SGD(p, lr=0.0))
    assert trace.norms[30:] == [None] * 5 + [pytest.approx(2.0), pytest.approx(1.0)]


def test_a_lasting_jump_of_the_norm_goes_on_training(kit):
    detector = ExplosionDetector(action="skip")
    norms = [1.0 + 0.01 * (i % 5) for i in range(60)] + [12.0 + 0.01 * (i % 5) for i in range(60)]
    trace = kit.pull(norms, [detector], lambda p: torch.optim.SGD(p, lr=1e-3))
    assert trace.norms[60:65] == [None] * 5
    assert trace.norms[65:] == pytest.approx(norms[65:])
    assert ("level_shift", "info") in {(kind, severity) for kind, severity, _ in kit.found(detector)}


def test_finite_skips_never_abort(kit):
    trace = kit.pull([3.0] * 80, [ExplosionDetector(action="skip", max_norm=2.0, max_skips=1)])
    assert trace.norms == [None] * 5 + [pytest.approx(2.0)] * 75


def test_nonfinite_warn_lets_it_through_and_says_so(kit):
    detector = ExplosionDetector(nonfinite="warn")
    trace = kit.pull([NAN, 1.0], [detector])
    assert not trace.weights[0].isfinite().any()
    assert detector.events[0].action_taken == 'nothing (action="warn")'


def test_a_nonfinite_gradient_outside_of_include_is_found_all_the_same(kit):
    detector = ExplosionDetector(include="nothing.*")
    trace = kit.pull([NAN], [detector])
    assert torch.equal(trace.weights[0], torch.ones(4))
    assert kit.found(detector) == [("nonfinite", "alarm", 0)]


def test_muting_the_message_does_not_let_nan_through(kit):
    detector = ExplosionDetector(ignore=["nonfinite"])
    trace = kit.pull([0.5, NAN, 0.5], [detector])
    assert torch.isfinite(trace.weights[-1]).all()
    assert [event.kind.value for event in detector.events] == ["nonfinite"]


def test_nonfinite_is_muted_where_nothing_is_done_about_it(kit):
    detector = ExplosionDetector(nonfinite="warn", ignore=["nonfinite"])
    kit.pull([0.5, NAN, 0.5], [detector])
    assert detector.events == []


def test_a_skipped_step_does_not_count_as_clipped(kit):
    log = kit.Memory()
    kit.pull(
        [0.5, 8.0, 0.5, 0.5], [AdaptiveClipper("value"), ExplosionDetector(action="skip", max_norm=4.0)], logger=log
    )
    assert set(log.points["grad_clip/rate"].values()) == {0.0}


def test_patience_waits_so_many_steps(kit):
    detector = ExplosionDetector(action="skip", max_norm=2.0, patience=3)
    trace = kit.pull([8.0, 8.0, 1.0, 8.0, 8.0, 8.0, 1.0], [detector])
    assert [norm is None for norm in trace.norms] == [False] * 5 + [True, False]


def test_a_finite_skip_in_between_does_not_reset_the_count_of_the_nonfinite_for_ever(kit):
    norms = [1.0] * 3 + [NAN] * 3 + [1.0] + [NAN] * 3 + [1.0]
    trace = kit.pull(norms, [ExplosionDetector(max_skips=3)])
    assert trace.trainer.global_step == len(norms)
