# SPDX-License-Identifier: Apache-2.0
"""The one place where evidence becomes a cause."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lightning_gradwatch.diagnosis import Evidence, History, Input, Setup, advice, fitting, weigh
from lightning_gradwatch.events import EventKind, Severity
from lightning_gradwatch.rules.remedies import remedies
from lightning_gradwatch.rules.rule import event as finding
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo

INFO = ParameterInfo(("a.weight", "b.weight"), ((8, 8), (8, 8)))
ADAM, SGD = ("Adam", [{"betas": (0.9, 0.999)}]), ("SGD", [{"momentum": 0.0, "dampening": 0.0}])
SOUND = Evidence(inputs=[Input("batch[0]", 0, 0, 0.5, 1.0)])
RAW = Evidence(inputs=[Input("batch[0]", 0, 0, 300.0, 900.0)])


def step(number, ratio=None, *, weights=2.0, loss=2.3, norm=1.0):
    return GradientSnapshot(
        INFO,
        norms=np.full(2, norm),
        present=np.array([True, True]),
        weight_norms=np.full(2, weights),
        update_ratios=None if ratio is None else np.full(2, ratio),
        loss=loss,
        step=number,
    )


def told(kind=EventKind.SPIKE, at=5, row=8, value=1.0):
    return finding(step(at), kind, Severity.ALARM, row, layers=(), value=value, limit=1.0, message="")


def history(optimizer, moved=None, **first):
    known = History()
    known.meet(*optimizer)
    known.follow(step(0, **first))
    known.follow(step(1, moved))
    return known


def named(*given):
    """The cause that `weigh` names; it names one."""
    cause = weigh(*given)
    assert cause is not None
    return cause


def test_a_step_that_is_too_large_at_inputs_of_order_1_is_the_rates_fault():
    for optimizer in (ADAM, SGD):
        cause = named(told(), SOUND, history(optimizer, 2.0))
        assert cause.text == (
            "the learning rate is too high: step 0 moved the weights by 2 of their norm; "
            "the inputs are of order 1 (rms 0.5)"
        )


def test_raw_inputs_explain_it_under_sgd_and_not_under_adam_whose_step_does_not_feel_them():
    assert "far from order 1" in named(told(), RAW, history(SGD, 2.0)).text
    assert "learning rate" in named(told(), RAW, history(ADAM, 2.0)).text
    assert "learning rate" not in named(told(), RAW, history(("RAdam", ADAM[1]), 2.0)).text  # its first steps are SGD's


def test_large_initial_weights_come_before_both():
    cause = named(told(), RAW, history(ADAM, 2.0, weights=8.0 * 8))
    assert cause.text == "initial weights too large in a, b: 23 times what preserves the variance"


def test_a_batch_unlike_the_first_comes_before_all():
    known = history(SGD, 0.2)
    known.outlier = (4, "batch[0] has 1e3 times the rms of the first batch")
    assert named(told(), SOUND, known).text.startswith("outlier batch: batch[0]")
    assert weigh(told(at=25), SOUND, known) is None  # too long ago


def test_nothing_is_said_without_evidence():
    assert weigh(told(), SOUND, history(SGD)) is None
    assert weigh(told(), SOUND, history(ADAM, 0.01)) is None
    assert weigh(told(at=60), SOUND, history(ADAM, 0.2)) is None  # too long ago
    assert weigh(told(EventKind.VANISHING), SOUND, history(ADAM, 2.0)) is None


def test_units_that_never_fired_did_not_die_of_a_large_step():
    assert weigh(told(EventKind.DEAD, row=15), SOUND, history(ADAM, 2.0)) is None
    assert "learning rate" in named(told(EventKind.DEAD, row=16), SOUND, history(ADAM, 2.0)).text


def test_numbers_that_broke_after_a_huge_step_have_its_cause():
    broke = told(EventKind.NONFINITE, row=10)
    assert "learning rate" in named(broke, SOUND, history(SGD, 2.0)).text
    assert "far from order 1" in named(broke, RAW, history(SGD, 2.0)).text
    assert "initial weights" in named(broke, SOUND, history(SGD, weights=8.0 * 8)).text
    assert weigh(broke, SOUND, history(SGD, 1e-3)) is None


def test_a_momentum_that_adds_up_a_thousand_steps_is_named():
    known = history(("SGD", [{"momentum": 0.999, "dampening": 0.0}]), 0.5)
    cause = named(told(), SOUND, known)
    assert cause.text.startswith("the momentum of 0.999 makes 1e3 of each step")
    assert advice(told(), cause, known)[0].text == "momentum 0.9"


@pytest.mark.parametrize(("moved", "text"), [(0.2, "/ 20"), (2.0, "/ 200"), (17.0, "/ 2000")])
def test_the_remedy_holds_the_number_that_was_measured(moved, text):
    known = history(ADAM, moved)
    cause = named(told(), SOUND, known)
    assert advice(told(), cause, known)[0].text == f"learning rate {text}"


def test_why_steps_are_too_small():
    slow = told(EventKind.STALLED, row=20, value=1e-7)
    tiny = named(slow, SOUND, history(ADAM, 1e-7))
    assert tiny.text.startswith("the learning rate is too low")
    assert advice(slow, tiny, history(ADAM, 1e-7))[0].text == "learning rate x 1000"
    scaled = Evidence(first={"value": 2.3})
    assert "1/1e3 of what the loss function gave" in named(slow, scaled, history(SGD, loss=2.3e-3)).text
    clipped = Evidence(setup=Setup(clipped=1e6))
    assert "clipping" in named(slow, clipped, history(SGD)).text
    assert weigh(slow, SOUND, history(SGD)) is None  # too small a gradient, or too low a rate: nobody knows
    assert weigh(told(EventKind.STALLED, row=29), SOUND, history(ADAM)) is None  # the schedule is told already


def test_targets_far_from_the_first_answers():
    targets = Evidence(first={"target": 4e3, "answer": 0.6})
    assert (
        "targets are far from order 1: rms 4e3" in named(told(EventKind.OFF_SCALE, row=32), targets, history(ADAM)).text
    )


def test_advice_leaves_out_what_the_module_has_and_what_the_update_speaks_against():
    has = Evidence(setup=Setup(normalised=True, rectified=True, gated=True), residual=True)
    assert [r.text for r in fitting(remedies(1), has, History())] == ["Xavier initialisation"]
    assert "LSTM or GRU" not in [r.text for r in fitting(remedies(3), has, History())]
    bare = Evidence(setup=Setup(normalised=False))
    assert fitting(remedies(1), bare, History()) == remedies(1)
    calm = "leave the learning rate as it is"
    assert calm in [r.text for r in fitting(remedies(8), bare, history(ADAM, 1e-3))]
    assert calm not in [r.text for r in fitting(remedies(8), bare, history(ADAM, 0.2))]
    assert calm not in [r.text for r in fitting(remedies(8), bare, History())]


def test_the_history_continues_where_a_checkpoint_was_taken():
    known = history(ADAM, 2.0)
    known.outlier = (1, "x")
    again = History()
    again.load_state_dict(json.loads(json.dumps(known.state_dict())))
    assert again.state_dict() == known.state_dict()
    assert again.too_fast(5) == (0, 2.0)
