# SPDX-License-Identifier: Apache-2.0
"""What both laws that learn must do."""

import math
import random

import pytest

from lightning_gradwatch.laws import PercentileClip, ZScoreClip

pytestmark = pytest.mark.parametrize("law", [ZScoreClip(), PercentileClip()], ids=["zscore", "percentile"])


@pytest.fixture(autouse=True)
def _empty(law):
    vars(law).update(vars(law.clone()))


def noisy(steps, level=1.0, sigma=0.05, seed=0):
    rng = random.Random(seed)
    return [level * math.exp(rng.gauss(0, sigma)) for _ in range(steps)]


def hits(law, norms):
    """The steps at which the law limits."""
    found = []
    for step, norm in enumerate(norms):
        if norm > law.limit():
            found.append(step)
        law.update(norm)
    return found


def test_nothing_is_limited_before_the_first_norm(law):
    assert law.limit() == math.inf


def test_the_first_norm_sets_the_scale(law):
    law.update(500.0)
    assert law.limit() == 5000


def test_a_steady_large_norm_is_left_alone(law):
    assert hits(law, noisy(100, 500.0)) == []


@pytest.mark.parametrize("step", [1, 2, 10, 40])
def test_an_explosion_in_the_first_steps_is_caught(law, step):
    norms = noisy(60)
    norms[step] = 1000.0
    assert hits(law, norms) == [step]


def test_an_explosion_as_the_very_first_step_hides_no_second_one(law):
    assert hits(law, [1000.0, 1.0, 1000.0, 1.0, 1000.0]) == [2, 4]


@pytest.mark.parametrize("sigma", [0.05, 0.3])
@pytest.mark.parametrize("length", [1, 3, 40])
@pytest.mark.parametrize("start", [20, 100, 600])
def test_each_step_of_a_burst_is_limited(law, start, length, sigma):
    norms = noisy(start, 1.0, sigma) + noisy(length, 1000.0, sigma) + noisy(15, 1.0, sigma)
    burst = set(range(start, start + length))
    assert burst <= set(hits(law, norms + noisy(length, 1000.0, sigma)))


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("level", [1.5, 3.0, 10.0, 1000.0, 0.1, 0.001])
@pytest.mark.parametrize("start", [3, 20, 300])
def test_after_a_lasting_shift_clipping_stops_within_200_steps(law, start, level, sigma):
    late = [step for step in hits(law, noisy(start, 1.0, sigma) + noisy(900, level, sigma)) if step >= start + 200]
    assert len(late) <= 0.01 * 700  # noise beyond three sigma is 0.2 %


@pytest.mark.parametrize("level", [0.1, 0.001])
@pytest.mark.parametrize("steps", [30, 300, 1000])
def test_coming_back_from_a_low_level_is_a_spike_for_less_than_200_steps(law, level, steps):
    norms = noisy(300) + noisy(steps, level) + noisy(400, seed=1)
    assert [step for step in hits(law, norms) if step >= 300 + steps + 200] == []


@pytest.mark.parametrize("step", [10, 49, 100])
def test_a_tiny_norm_does_not_blind_it(law, step):
    norms = [*noisy(step), 1e-30, *noisy(60), 1000.0]
    assert hits(law, norms)[-1] == step + 61
    assert law.limit() < 10


@pytest.mark.parametrize("norm", [0.3, 1.0, 1e-20, 1e20])
def test_constant_norms_are_never_hit(law, norm):
    assert hits(law, [norm] * 300 + [norm * 1.00001] + [norm] * 300) == []


@pytest.mark.parametrize("nothing", [0.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("seen", [0, 5, 100])
def test_norms_that_are_none_change_nothing(law, seen, nothing):
    for norm in noisy(seen):
        law.update(norm)
    before = law.state_dict(), law.limit()
    law.update(nothing)
    assert (law.state_dict(), law.limit()) == before


def test_the_fiftieth_unusual_norm_in_a_row_makes_them_the_usual_ones(law):
    norms = [1.0] * 100 + [7.0] * 60
    assert hits(law, norms) == list(range(100, 150))


def test_one_usual_norm_breaks_the_row(law):
    norms = [1.0] * 600 + [1000.0] * 49 + [1.0] + [1000.0] * 49
    assert len(hits(law, norms)) == 98


def test_slow_growth_and_decay_are_left_alone(law):
    for sign in (1, -1):
        law = law.clone()
        norms = [x * math.exp(sign * step / 700) for step, x in enumerate(noisy(4000))]
        assert len(hits(law, norms)) <= 0.005 * 4000
