# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from lightning_gradwatch.rules import Growth, LossHistory, RuleSet


def played(lab, norms, losses=None, **kwargs):
    history = LossHistory()
    rules = RuleSet({"growth": Growth(history, **kwargs)}, history)
    layout = lab.stack(1)
    losses = [None] * len(norms) if losses is None else losses
    steps = [
        lab.snapshot(layout, [norm], step=i, loss=loss)
        for i, (norm, loss) in enumerate(zip(norms, losses, strict=True))
    ]
    return lab.play(rules, steps)


FLAT = [1.0] * 60
GROWING = FLAT + (1.1 ** np.arange(1, 101)).tolist()  # x117 per window
RISING = [1.0] * 60 + (1.02 ** np.arange(1, 101)).tolist()


def test_steady_growth_with_a_rising_loss_is_one_alarm(lab):
    (event,) = played(lab, GROWING, RISING)
    assert (event.kind, event.severity) == ("explosion", "alarm")
    assert event.step < 60 + 50
    assert event.value > event.limit == 30


def test_without_a_loss_it_is_a_warning_and_with_a_falling_one_nothing(lab):
    assert [event.severity for event in played(lab, GROWING)] == ["warning"]
    assert played(lab, GROWING, np.linspace(2, 1, 160)) == []


def test_growth_with_a_loss_that_falls_without_bound_points_at_its_sign(lab):
    (event,) = played(lab, GROWING, [1.0] * 60 + (-(1.1 ** np.arange(1, 101))).tolist())
    assert (event.severity, event.remedies[0].id) == ("alarm", "GW-25")
    assert played(lab, GROWING, [1.0] * 60 + np.linspace(1, -5, 100).tolist()) == []


def test_slow_growth_is_left_alone(lab):
    assert played(lab, FLAT + (1.05 ** np.arange(150)).tolist()) == []


def test_a_jump_is_not_growth(lab):
    assert played(lab, FLAT + [1.0] * 40 + [20.0] * 100, [1.0] * 100 + [1.5] * 100) == []


def test_a_warm_up_that_grows_the_norm_while_the_loss_falls_is_fine(lab):
    assert played(lab, (0.001 * 1.08 ** np.arange(150)).tolist(), np.linspace(3, 1, 150)) == []


def test_it_is_told_again_only_after_it_came_down(lab):
    up = (1.15 ** np.arange(1, 51)).tolist()
    again = FLAT + up + [1000.0] * 20 + [1.0] * 60 + up
    assert len(played(lab, again)) == 2


@pytest.mark.parametrize("window", [20, 200])
def test_the_slope_does_not_depend_on_the_number_of_points(lab, window):
    rate = 100 ** (1 / window)
    norms = [1.0] * window + (rate ** np.arange(1, 2 * window)).tolist()
    (event,) = played(lab, norms, window=window)
    assert event.value == pytest.approx(100, rel=0.9)


def test_patience_waits_further_steps(lab):
    (at_once,) = played(lab, GROWING)
    (later,) = played(lab, GROWING, patience=11)
    assert later.step == at_once.step + 10


def test_the_message_holds_the_growth(lab):
    (event,) = played(lab, GROWING, RISING)
    first, where, loss = event.message.splitlines()
    assert first == "grad norm grows x120 in 50 steps, to 45 (at the start 1)"
    assert (where, loss) == ("where: net.0 100 %", "loss: rising (1 -> 1.359)")
