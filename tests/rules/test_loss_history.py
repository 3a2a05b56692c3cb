# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.rules import LossHistory


def fed(losses, window=50, reduce=None):
    history = LossHistory(window, reduce)
    for loss in losses:
        history.update(loss)
    return history


RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=2000)
FLAT = (2.3 + 0.1 * NOISE[:100]).tolist()
FALLING = (2.3 * 0.99 ** np.arange(100) + 0.1 * NOISE[:100]).tolist()


def test_a_falling_loss_improves_and_a_flat_one_does_not():
    assert fed(FALLING).improved() is True
    assert fed(FLAT).improved() is False


def test_a_drop_below_three_percent_is_no_progress_even_without_noise():
    assert fed([1.0] * 50 + [0.98] * 50).improved() is False
    assert fed([1.0] * 50 + [0.96] * 50).improved() is True


def test_a_drop_within_the_noise_is_no_progress():
    noise = 2 * NOISE[:100]
    assert fed([*(10 + noise[:50]), *(9.6 + noise[50:])]).improved() is False


def test_the_noise_is_two_and_a_half_standard_errors():
    # Four in five are 1 away from their median, as in noise of deviation 1.4826; over 50 losses that makes 0.524.
    around = np.array([-1.0, -1.0, 0.0, 1.0, 1.0] * 10)
    assert fed([*(10 + around), *(9.49 + around)]).improved() is False
    assert fed([*(10 + around), *(9.46 + around)]).improved() is True


def test_flat_noise_is_seldom_called_progress():
    wrong = [fed(5 + NOISE[i : i + 100]).improved() for i in range(0, 1900, 50)]
    assert sum(map(bool, wrong)) <= 0.15 * len(wrong)


def test_answers_are_unknown_before_a_window_and_without_losses():
    short, none, broken = fed(FLAT[:49]), fed([None] * 100), fed([math.nan, math.inf] * 50)
    assert [history.improved() for history in (short, none, broken)] == [None] * 3
    assert [history.stuck() for history in (short, none, broken)] == [None] * 3
    assert none.rising(10) is None
    assert none.converged() is None
    assert none.jump() is None
    assert none.line() == "loss: progress not known"


def test_a_nan_among_losses_changes_nothing_else():
    assert fed([*FALLING[:70], math.nan, *FALLING[71:]]).improved() is True


def test_five_percent_of_the_start_is_converged():
    assert fed([1.0] * 50 + [0.051] * 100).converged() is False
    assert fed([1.0] * 50 + [0.049] * 100).converged() is True
    assert fed([0.0] * 100).converged() is True


def test_coming_down_from_a_blow_up_is_not_converging():
    assert fed([2.3] + [1e6] * 20 + [2.3] * 100).converged() is False


def test_a_converged_loss_is_not_stuck_although_it_does_not_improve():
    history = fed([1.0] * 50 + [0.01] * 100)
    assert (history.improved(), history.stuck()) == (False, False)
    assert fed([1.0] * 150).stuck() is True


def test_a_loss_rises_when_it_lies_a_fifth_above_the_window_before():
    assert fed([1.0] * 50 + [1.3] * 5).rising(5) is True
    assert fed([1.0] * 50 + [1.1] * 5).rising(5) is False
    assert fed([1.0] * 50 + [1.3] * 2).rising(2) is None


def test_a_loss_that_jumped_has_ten_steps_to_come_down_again():
    assert fed([1.0] * 50 + [2.0] * 10).lasting(10) is False
    assert fed([1.0] * 50 + [2.0] * 11).lasting(11) is True
    assert fed([1.0] * 50 + [2.0] * 3 + [1.7] * 8).lasting(11) is False  # it falls
    assert fed([1.0] * 50 + [2.0] + [2.3] * 9).lasting(10) is True  # it goes on from there


def test_a_loss_that_has_fallen_to_a_hundred_times_the_start_below_zero_is_bottomless():
    assert fed([-1.0, 1.0] * 5 + [-99.0] * 50).bottomless() is False
    assert fed([-1.0, 1.0] * 5 + [-101.0] * 50).bottomless() is True


@pytest.mark.parametrize("offset", [0.0, -1000.0])
def test_a_loss_that_may_be_negative_is_held_against_its_spread(offset):
    falling, flat = fed(offset + np.linspace(5, -5, 100)), fed(offset + NOISE[:100])
    assert (falling.improved(), flat.improved()) == (True, False)
    assert (falling.converged(), flat.converged()) == (None, None)


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
@pytest.mark.parametrize("losses", [FALLING, FLAT, NOISE[:100].tolist(), (NOISE[:100].cumsum()).tolist()])
def test_answers_are_scale_free(losses, scale):
    one, other = fed(losses), fed([scale * loss for loss in losses])
    assert one.improved() == other.improved()
    assert one.converged() == other.converged()
    assert [one.rising(k) for k in (3, 10, 50)] == [other.rising(k) for k in (3, 10, 50)]


def test_ranks_are_averaged_once_per_step_and_only_when_asked():
    calls = []

    def mean_with_a_rank_that_does_not_learn(values):
        calls.append(len(values))
        return [(value + 100.0) / 2 for value in values]

    history = fed(FALLING, reduce=mean_with_a_rank_that_does_not_learn)
    assert calls == []
    assert history.improved() is False
    history.rising(5)
    history.line()
    assert calls == [110]  # the first ten and the last hundred
    history.update(1.0)
    history.improved()
    assert len(calls) == 2


def test_a_rank_without_a_loss_asks_the_others_all_the_same():
    lengths = []

    def of_two_ranks(values):
        lengths.append(len(values))
        return values

    assert fed([None] * 60, reduce=of_two_ranks).improved() is None
    assert lengths == [70]


def test_the_line_holds_both_medians():
    assert fed([2.3031] * 50 + [2.3024] * 50).line() == "loss: no progress in 50 steps (2.303 -> 2.302)"
    assert fed([2.0] * 50 + [1.0] * 50).line() == "loss: improving (2 -> 1)"
    assert fed([1.0] * 50 + [2.0] * 50).line() == "loss: rising (1 -> 2)"


def test_the_jump_is_from_the_median_before_to_this_step():
    assert fed([2.0, 2.1, 2.2, 9.8]).jump() == (2.1, 9.8)
    assert fed([2.0, None]).jump() is None


def test_a_restored_history_answers_like_the_one_that_went_on(lab):
    whole, first = LossHistory(20), LossHistory(20)
    answers = []
    for i, loss in enumerate([*FALLING, math.nan, *FLAT]):
        if i == 33:
            first = LossHistory(20)
            first.load_state_dict(lab.through_checkpoint(whole.state_dict()))
        for history in (whole, first) if i >= 33 else (whole,):
            history.update(loss)
        if i >= 33:
            answers.append((whole.improved(), whole.converged(), whole.rising(7), whole.line()))
            assert answers[-1] == (first.improved(), first.converged(), first.rising(7), first.line())
    assert len(set(answers)) > 1
