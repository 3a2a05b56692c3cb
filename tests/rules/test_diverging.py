# SPDX-License-Identifier: Apache-2.0
"""A loss that climbs above its start without a jump."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_gradwatch.rules import Diverging, LossHistory, RuleSet

STEPS = np.arange(300)
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=300)
V = np.where(STEPS < 100, 2.3 - 0.01 * STEPS, 1.3 + 0.02 * (STEPS - 100))  # turns at 100, above its start from 150 on


def played(lab, losses, norms, **kwargs):
    history = LossHistory()
    rules = RuleSet({"diverging": Diverging(history, **kwargs)}, history)
    layout = lab.stack(3)
    steps = [
        lab.snapshot(layout, float(norm), step=i, loss=float(loss))
        for i, (loss, norm) in enumerate(zip(losses, norms, strict=True))
    ]
    return lab.play(rules, steps)


def test_a_loss_that_turns_and_climbs_above_its_start_with_its_gradient_is_one_alarm(lab):
    (event,) = played(lab, V, np.exp(0.012 * STEPS))
    assert (event.kind, event.severity) == ("diverging", "alarm")
    assert 150 < event.step < 200
    assert "the gradient has grown" in event.message
    assert event.remedies[0].id == "GW-31"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_verdict_does_not_depend_on_the_scale(lab, scale):
    (event,) = played(lab, scale * V, scale * np.exp(0.012 * STEPS))
    assert event.value == pytest.approx(played(lab, V, np.exp(0.012 * STEPS))[0].value)


def test_a_loss_that_climbs_to_twice_its_start_alone_is_a_warning(lab):
    assert [event.severity for event in played(lab, 2.3 + 0.02 * STEPS, np.ones(300))] == ["warning"]


def test_a_losing_adversary_is_none(lab):
    norms = np.exp(0.012 * STEPS)
    assert played(lab, V, norms, rivals=True) == []


@pytest.mark.parametrize(
    ("losses", "norms"),
    [
        (2.3 * np.exp(-0.01 * STEPS), np.exp(0.02 * STEPS)),
        (1.0 + 0.3 * NOISE, np.exp(0.02 * STEPS)),
        (np.where(STEPS < 150, 1.0, 4.0 * np.exp(-0.01 * (STEPS - 150))), np.where(STEPS < 150, 1.0, 10.0)),
        (0.5 * NOISE + 0.2 * np.sin(STEPS / 30), np.exp(0.01 * STEPS)),
        (-5.0 - 0.02 * STEPS + 0.5 * NOISE, np.exp(0.01 * STEPS)),
    ],
    ids=["falling", "noise", "curriculum", "of both signs", "negative"],
)
def test_what_is_no_climb_is_none(lab, losses, norms):
    assert played(lab, losses, norms) == []


def test_it_continues_where_a_checkpoint_was_taken(lab):
    history = LossHistory()
    rule = Diverging(history)
    for i in range(120):
        history.update(float(V[i]))
        rule.judge(lab.snapshot(lab.stack(2), float(np.exp(0.012 * i)), step=i))
    again = Diverging(history)
    again.load_state_dict(lab.through_checkpoint(rule.state_dict()))
    assert again.state_dict() == rule.state_dict()
