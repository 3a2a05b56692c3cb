# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_gradwatch.rules import Baseline
from lightning_gradwatch.rules.quantile import RunQuantile


def fed(norms, window=50, limit=math.inf):
    baseline = Baseline(window)
    for norm in norms:
        baseline.update(norm, limit)
    return baseline


NORMS = np.exp(np.random.default_rng(0).normal(size=400)).tolist()


def test_the_median_is_that_of_the_window():
    assert fed([100.0] * 10 + [1.0, 2.0, 3.0, 4.0, 5.0], window=5).median == 3.0


def test_a_bare_baseline_speaks_of_the_last_fifty_norms():
    baseline = Baseline()
    for norm in range(1, 201):
        baseline.update(float(norm))
    assert baseline.median == 176.0  # the upper of the two middle ones of 151 to 200


def test_the_spread_is_the_median_deviation_of_logarithms():
    window = NORMS[-51:]
    logs = np.log(window)
    expected = 1.4826 * np.median(np.abs(logs - np.median(logs)))
    assert fed(NORMS, window=51).spread == pytest.approx(expected)


def test_a_constant_norm_keeps_the_least_spread():
    assert fed([3.0] * 60).spread == pytest.approx(1.4826 * 0.15)


@pytest.mark.parametrize("nothing", [0.0, math.nan, math.inf, -math.inf])
def test_what_is_no_norm_changes_nothing(nothing):
    baseline = fed(NORMS[:30])
    before = baseline.state_dict()
    baseline.update(nothing)
    assert baseline.state_dict() == before


def test_a_spike_enters_as_the_limit():
    assert sorted(fed([1.0, 1.0, 1e9], limit=10.0).state_dict()["ring"]) == [1.0, 1.0, 10.0]


def test_reseeding_starts_again_from_the_last_five_raw_norms():
    baseline = fed([1.0] * 45 + [100.0, 200.0, 300.0, 400.0, 500.0], limit=10.0)
    baseline.reseed()
    assert (baseline.median, baseline.count) == (300.0, 5)


def test_a_window_that_shrank_since_the_checkpoint_is_obeyed():
    baseline = Baseline(10)
    baseline.load_state_dict(fed(NORMS[:50]).state_dict())
    for norm in range(1, 11):
        baseline.update(float(norm))
    assert sorted(baseline.state_dict()["ring"]) == [float(norm) for norm in range(1, 11)]


def test_the_run_quantile_is_right_to_a_bin():
    sketch = RunQuantile(0.1)
    for norm in NORMS:
        sketch.add(norm)
    exact = np.quantile(NORMS, 0.9)
    assert exact / 1.1 < sketch.value < exact * 1.1


def test_the_run_quantile_is_brought_up_to_date_at_every_sixteenth_number():
    sketch, values = RunQuantile(0.1), []
    for number in [1.0] * 16 + [100.0] * 16:
        sketch.add(number)
        values.append(sketch.value)
    assert values[:15] == [0.0] * 15
    assert values[15:31] == [pytest.approx(1.0, rel=0.1)] * 16
    assert values[31] == pytest.approx(100.0, rel=0.1)


def test_the_run_quantile_stays_bounded_and_right_over_many_magnitudes():
    values = (2.0 ** np.random.default_rng(1).normal(0, 25, 20000)).tolist()
    sketch = RunQuantile(0.1)
    for value in values:
        sketch.add(value)
    assert len(sketch.state_dict()["keys"]) < 550
    assert sketch.value == pytest.approx(np.quantile(values, 0.9), rel=0.1)


@pytest.mark.parametrize("power", [-200, -1, 3, 200])
def test_all_of_it_scales_to_the_last_bit(power):
    one, other = fed(NORMS), fed([math.ldexp(norm, power) for norm in NORMS])
    assert other.median == math.ldexp(one.median, power)
    assert other.q90 == math.ldexp(one.q90, power)
    assert other.spread == one.spread


def test_a_restored_baseline_goes_on_alike(lab):
    whole, restored = fed(NORMS[:123]), Baseline(50)
    restored.load_state_dict(lab.through_checkpoint(whole.state_dict()))
    for norm in NORMS[123:]:
        whole.update(norm)
        restored.update(norm)
        assert (whole.median, whole.spread, whole.q90) == (restored.median, restored.spread, restored.q90)
