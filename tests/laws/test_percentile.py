# SPDX-License-Identifier: Apache-2.0
import random

import numpy as np
import pytest
import torch

from lightning_gradwatch.laws import AutoClip, PercentileClip


@pytest.mark.parametrize("percentile", [0, 10, 50, 90, 99.5, 100])
@pytest.mark.parametrize("window", [1, 7, 100])
def test_the_limit_is_numpys_percentile_of_the_last_norms(percentile, window):
    rng = random.Random(0)
    norms = [rng.uniform(1.0, 1.5) for _ in range(300)]
    law = PercentileClip(percentile=percentile, factor=2.0, window=window)
    for count, norm in enumerate(norms, start=1):
        law.update(norm)
        if count >= min(window, 50):
            assert law.limit() == pytest.approx(2 * np.percentile(norms[max(0, count - window) : count], percentile))


def test_in_the_warmup_the_limit_is_ten_times_the_lower_median():
    law = PercentileClip()
    limits = []
    for norm in (8.0, 1.0, 2.0, 3.0):
        law.update(norm)
        limits.append(law.limit())
    assert limits == [80, 10, 20, 20]


def test_a_huge_norm_enters_as_at_most_four_times_the_median():
    law = PercentileClip(percentile=100, factor=1.0, window=60)
    for norm in [1.0] * 50 + [1e6]:
        law.update(norm)
    assert law.limit() == 4


def test_the_rule_of_autoclip_clips_most_steps_and_follows_growth():
    rng = random.Random(0)
    law, clipped = PercentileClip(percentile=10, factor=1.0, window=500), 0
    norms = [rng.uniform(1.0, 2.0) * (1 + step / 1000) for step in range(3000)]
    for norm in norms:
        clipped += norm > law.limit()
        law.update(norm)
    assert clipped > 0.8 * 3000
    assert law.limit() == pytest.approx(np.percentile(norms[-500:], 10), rel=0.1)


def autoclip(norms, percentile):
    """Algorithm 1 of arXiv 2007.14469: the norm after clipping, step by step."""
    history: list[float] = []
    after: list[float] = []
    for norm in norms:
        history.append(norm)
        after.append(min(norm, float(np.percentile(history, percentile))))
    return after


@pytest.mark.parametrize("percentile", [0, 1, 10, 25, 50, 90, 100])
def test_published_is_autoclip_step_by_step(percentile):
    rng = random.Random(0)
    norms = [rng.lognormvariate(0, 0.5) for _ in range(400)]
    norms[100:103] = [1e6] * 3
    norms[200:] = [3 * norm for norm in norms[200:]]
    law, after = AutoClip(percentile), []
    for norm in norms:
        factor = float(law.factor(torch.tensor(norm, dtype=torch.float64)))
        assert (factor < 1) == (norm > law.limit())
        after.append(factor * norm)
        law.update(norm)
    assert after == pytest.approx(autoclip(norms, percentile), rel=1e-5)  # clip_grad_norm_ divides by norm + 1e-6


def test_published_takes_the_tenth_percentile_as_the_paper_does():
    law = AutoClip()
    for norm in range(11, 0, -1):
        law.update(float(norm))
    assert law.limit() == 2.0


def test_published_tells_its_name_and_gives_fresh_ones():
    law = AutoClip(25)
    law.update(3.0)
    assert repr(law) == repr(law.clone()) == "AutoClip(percentile=25.0)"
    assert law.clone().limit() == float("inf")


@pytest.mark.parametrize("nothing", [0.0, float("nan"), float("inf")])
def test_norms_that_are_none_change_nothing_in_the_published_rule_either(nothing):
    law = AutoClip()
    law.update(1.0)
    before = law.state_dict()
    law.update(nothing)
    assert law.state_dict() == before
