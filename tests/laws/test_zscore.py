# SPDX-License-Identifier: Apache-2.0
import math
import random
import statistics

import pytest
import torch

from lightning_gradwatch.laws import ZClip, ZScoreClip


def taught(law, norms):
    for norm in norms:
        law.update(norm)
    return law


def test_after_the_warmup_the_limit_is_z_sigma_above_the_mean_of_the_logarithms():
    norms = [math.exp(x) for x in (0.0, 0.2, 0.4, 0.6)]  # mean 0.3, population variance 0.05
    law = taught(ZScoreClip(z=2.0, warmup_steps=4), norms)
    assert law.limit() == pytest.approx(math.exp(0.3 + 2 * math.sqrt(0.05)))


def test_each_further_norm_moves_mean_and_variance():
    law = taught(ZScoreClip(z=2.0, alpha=0.9, warmup_steps=4), [math.exp(x) for x in (0.0, 0.2, 0.4, 0.6)])
    law.update(math.exp(0.5))  # 0.2 above the mean
    mean, var = 0.3 + 0.1 * 0.2, 0.9 * (0.05 + 0.1 * 0.2**2)
    assert law.limit() == pytest.approx(math.exp(mean + 2 * math.sqrt(var)))


@pytest.mark.parametrize("norm", [1e6, 1e-6])
def test_an_unusual_norm_counts_as_the_last_usual_one(norm):
    law = taught(ZScoreClip(z=2.0, alpha=0.9, warmup_steps=4), [math.exp(x) for x in (0.0, 0.2, 0.4, 0.6)])
    law.update(norm)
    step = math.copysign(2 * math.sqrt(0.05), math.log(norm))
    mean, var = 0.3 + 0.1 * step, 0.9 * (0.05 + 0.1 * step**2)
    assert law.limit() == pytest.approx(math.exp(mean + 2 * math.sqrt(var)))


def test_of_unusual_norms_in_a_row_only_the_first_is_learned():
    once = taught(ZScoreClip(warmup_steps=4), [1.0, 1.1, 0.9, 1.0, 50.0])
    often = taught(ZScoreClip(warmup_steps=4), [1.0, 1.1, 0.9, 1.0, 50.0, 60.0, 70.0])
    assert once.limit() == often.limit()


def test_constant_norms_leave_a_band_of_five_percent_per_sigma():
    assert taught(ZScoreClip(z=3.0), [2.0] * 60).limit() == pytest.approx(2 * math.exp(0.15))


def test_a_spike_is_taken_back_the_further_the_further_out_it_is():
    law = taught(ZScoreClip(z=3.0), [1.0] * 60)  # mean 0, sigma 0.05
    for z in (3.5, 6.0, 90.0):
        norm = torch.tensor(math.exp(0.05 * z))
        assert law.factor(norm) * norm == pytest.approx(math.exp(9 / z * 0.05), rel=1e-5)


def test_of_a_gradient_that_is_far_off_next_to_nothing_is_left():
    law = ZScoreClip()
    law.update(1.0)  # in the warm-up: a limit of 10
    factors = [law.factor(torch.tensor(10.0 * x, dtype=torch.float64)).item() for x in (1.0, 99.0, 100.0, 1e4)]
    assert factors == pytest.approx([1.0, 1 / 99, 1 / 100, 1e-6])


def test_the_factor_is_continuous_at_the_limit():
    law = taught(ZScoreClip(), [1.0, 1.3, 0.8] * 30)
    above = torch.tensor(law.limit() * (1 + 1e-6), dtype=torch.float64)
    assert law.factor(above) == pytest.approx(1, abs=1e-5)
    assert law.factor(above) < 1


def test_max_norm_holds_from_the_first_step():
    law = ZScoreClip(max_norm=2.0)
    assert law.limit() == 2
    assert law.factor(torch.tensor(8.0)) == 0.25


def test_max_norm_limits_what_is_usual_and_does_not_enter_the_statistics():
    law = taught(ZScoreClip(max_norm=0.5), [1.0] * 300)
    for norm in (0.8, 0.99, 1.0, 1.1):
        assert law.factor(torch.tensor(norm)) * norm == pytest.approx(0.5)
    assert law.state_dict()["mean"] == 0
    assert law.factor(torch.tensor(100.0)) == pytest.approx(0.005)


def test_healthy_noise_is_rarely_clipped():
    rng = random.Random(0)
    law, clipped = ZScoreClip(), 0
    for _ in range(20_000):
        norm = math.exp(rng.gauss(0, 0.3))
        clipped += norm > law.limit()
        law.update(norm)
    assert clipped < 0.003 * 20_000


def zclip(norms, alpha=0.97, threshold=2.5, warmup=25, max_norm=1.0, eps=1e-6):
    """Algorithm 1 of arXiv 2504.02507 with its reciprocal clipping: the norm after clipping, step by step."""
    buffer: list[float] = []
    after: list[float] = []
    mean = var = 0.0
    for norm in norms:
        if len(buffer) < warmup:
            buffer.append(norm)
            mean, var = statistics.fmean(buffer), statistics.pvariance(buffer)
            after.append(min(norm, max_norm))
            continue
        z = (norm - mean) / (math.sqrt(var) + eps)
        target = mean + threshold * math.sqrt(var) / (z / threshold) if z > threshold else norm
        after.append(min(target, max_norm))
        mean = alpha * mean + (1 - alpha) * target
        var = alpha * var + (1 - alpha) * (target - mean) ** 2
    return after


@pytest.mark.parametrize("level", [0.1, 0.5, 2.0])
def test_published_is_zclip_step_by_step(level):
    rng = random.Random(0)
    norms = [level * math.exp(rng.gauss(0, 0.2)) for _ in range(400)]
    norms[100:103] = [100 * level] * 3
    norms[250:] = [2 * norm for norm in norms[250:]]
    law, after = ZClip(), []
    for norm in norms:
        factor = law.factor(torch.tensor(norm, dtype=torch.float64))
        assert (factor < 1) == (norm > law.limit())
        after.append(float(factor) * norm)
        law.update(norm)
    assert after == pytest.approx(zclip(norms), rel=3e-5)  # ZClip divides by norm + 1e-6


def test_published_is_locked_in_by_a_shift_which_the_default_follows():
    norms = [0.1, 0.11, 0.09] * 30 + [0.6] * 2000
    locked, free = taught(ZClip(), norms), taught(ZScoreClip(), norms)
    assert locked.limit() < 0.12
    assert free.limit() > 0.6


def test_published_tells_its_name_and_gives_fresh_ones():
    law = taught(ZClip(), [0.1] * 40)
    assert repr(law) == repr(law.clone()) == "ZClip()"
    assert law.clone().limit() == 1
