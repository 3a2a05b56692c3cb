# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import pytest

from lightning_gradwatch.lr.backoff import MEMORY_STEPS, BackOff, Scale


def back_off(**changes):
    return BackOff(
        **{"backoff": 0.25, "cooldown_steps": 2, "hold_steps": 3, "rewarm_steps": 4, "min_scale": 1 / 64, **changes}
    )


def steps(machine, count):
    return [machine.step() for _ in range(count)]


def test_without_events_it_stays_at_1():
    assert steps(back_off(), 5) == [1.0] * 5


def test_it_backs_off_holds_and_comes_back_at_a_constant_ratio():
    machine = back_off()
    assert machine.trigger()
    assert steps(machine, 9) == pytest.approx([0.25] * 3 + [0.25 * 4 ** (i / 4) for i in (1, 2, 3, 4)] + [1.0] * 2)


def test_events_within_the_cooldown_are_the_same_trouble():
    machine = back_off()
    machine.trigger()
    machine.step()
    assert not machine.trigger()
    machine.step()
    assert machine.trigger()
    assert machine.scale == 0.0625


def test_prevented_harm_counts_by_steps_in_a_row():
    machine = back_off(patience=3, cooldown_steps=0)
    for _ in range(2):
        assert not machine.prevent()
        assert not machine.prevent()  # the same step
        machine.step()
    machine.step()  # a quiet one
    counted = []
    for _ in range(4):
        counted.append(machine.prevent())
        machine.step()
    assert counted == [False, False, True, True]


def test_it_goes_no_lower_than_min_scale():
    machine = back_off(cooldown_steps=0)
    for _ in range(9):
        machine.trigger()
    assert machine.scale == 1 / 64
    assert min(steps(machine, 20)) == 1 / 64


def test_a_relapse_comes_back_to_less():
    machine = back_off()
    machine.trigger()
    steps(machine, 10)
    machine.trigger()
    assert steps(machine, 20)[-1] == pytest.approx(0.9)
    machine.trigger()
    assert steps(machine, 20)[-1] == pytest.approx(0.81)


def test_a_long_quiet_forgives():
    machine = back_off()
    for _ in range(2):
        machine.trigger()
        steps(machine, 10)
    assert steps(machine, MEMORY_STEPS)[-1] == pytest.approx(1.0)
    machine.trigger()
    assert steps(machine, 20)[-1] == 1.0  # no relapse any more


@pytest.mark.parametrize("settings", [{"hold_steps": 0}, {"rewarm_steps": 0}, {"hold_steps": 0, "rewarm_steps": 0}])
def test_phases_may_be_left_out(settings):
    machine = back_off(**settings)
    machine.trigger()
    values = steps(machine, 10)
    assert values == sorted(values)
    assert values[-1] == 1.0


def test_the_scale_never_exceeds_1_and_never_jumps_up():
    machine, values = back_off(cooldown_steps=0, rewarm_steps=40), []
    for i in range(6000):
        if i % 700 == 0 and i < 3000:
            machine.trigger()
        values.append(machine.step())
    ratios = [b / a for a, b in pairwise(values)]
    assert max(values) <= 1.0
    assert max(ratios) < 1.05  # a twentieth of a step of 0.25 -> 1 in 40


def test_a_state_continues_exactly():
    one, other = Scale(0.9, 3, back_off()), Scale(0.9, 3, back_off())
    for epoch in range(5):
        one.step(epoch)
    one.back_off.trigger()
    one.step(5)
    one.back_off.prevent()
    other.load_state_dict(one.state_dict())
    assert [one.step(i) for i in range(20)] == [other.step(i) for i in range(20)]


@pytest.mark.parametrize(
    ("every", "expected"), [("epoch", [1, 0.5, 0.5, 0.25]), (2, [1, 1, 0.5, 0.5]), (1, [1, 0.5, 0.25, 0.125])]
)
def test_the_schedule_counts_epochs_or_steps(every, expected):
    scale = Scale(0.5, every, back_off())
    assert [scale.step(epoch) for epoch in (0, 1, 1, 2)] == expected


def test_schedule_and_back_off_multiply():
    scale = Scale(0.5, 1, back_off())
    scale.step(0)
    scale.back_off.trigger()
    assert scale.step(0) == 0.5 * 0.25


def test_a_retreat_lowers_it_for_each_time_and_the_second_time_for_good():
    first, second = back_off(), back_off()
    first.retreat(0.5, 1)
    second.retreat(0.5, 2)
    assert steps(first, 8) == pytest.approx([0.5] * 3 + [0.5 * 2 ** (i / 4) for i in (1, 2, 3, 4)] + [1.0])
    assert steps(second, MEMORY_STEPS + 99) == [0.25] * (MEMORY_STEPS + 99)
    second.trigger()
    assert steps(second, 99)[-1] == pytest.approx(0.25)


def test_a_retreat_after_an_event_that_is_remembered_is_for_good_too():
    machine = back_off()
    machine.trigger()
    steps(machine, 20)
    machine.retreat(0.5, 1)
    fresh = back_off()
    fresh.load_state_dict(machine.state_dict())
    assert steps(machine, MEMORY_STEPS + 99) == steps(fresh, MEMORY_STEPS + 99) == [0.5] * (MEMORY_STEPS + 99)
