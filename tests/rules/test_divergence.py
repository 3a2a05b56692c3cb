# SPDX-License-Identifier: Apache-2.0
"""When alarms mean that the weights are ruined. Losses fall from 2 to 1 and stay there, unless a test says so."""

import inspect
import math

import pytest

from lightning_gradwatch import Rewind
from lightning_gradwatch.events import EventKind, Severity
from lightning_gradwatch.rewind.divergence import DivergenceDetector
from lightning_gradwatch.rules.rule import event

NAN = math.nan


class Run:
    """Steps of a two-layer network, each with a loss and events."""

    def __init__(self, lab, scale=1.0, **settings):
        self.lab, self.scale = lab, scale
        self.layout = lab.stack(2)
        self.ruined = DivergenceDetector(**{"recovery_steps": 10, "window": 20, **settings})
        self.steps = 0

    def step(self, loss=1.0, norms=(1.0, 1.0), *events):
        snapshot = self.lab.snapshot(self.layout, list(norms), step=self.steps, loss=self.scale * loss)
        self.steps += 1
        self.ruined.step(snapshot)
        for kind, severity, value in events:
            details = {"layers": self.layout.layers[:1], "value": value, "limit": 1.0, "message": "m"}
            self.ruined.hear(event(snapshot, EventKind(kind), Severity(severity), 7, **details))
        verdict = self.ruined.verdict()
        return verdict and verdict.reason

    def well(self, steps=40):
        for i in range(steps):
            assert self.step(1.0 + 1.0 / (1 + i) + 0.01 * (i % 2)) is None
        self.ruined.good(self.ruined.state_dict())
        return self


SPIKE, ALARM = ("spike", "warning", 20.0), ("spike", "alarm", 2e4)


def verdicts(run, losses, *events):
    return [run.step(losses[0], (1.0, 1.0), *events)] + [run.step(loss) for loss in losses[1:]]


@pytest.fixture
def run(lab):
    return Run(lab).well()


@pytest.mark.parametrize("told", [SPIKE, ALARM, ("explosion", "alarm", 30.0), ("update_too_large", "warning", 0.6)])
def test_a_loss_that_stays_up_after_a_finding_ruins_after_so_many_steps(run, told):
    seen = verdicts(run, [1.5] * 11, told)
    assert seen == [None] * 10 + ["the loss has not come back in 10 steps"]


def test_by_default_a_loss_has_the_thirty_steps_that_rewind_promises(lab):
    promised = inspect.signature(Rewind).parameters["recovery_steps"].default
    run = Run(lab)
    run.ruined = DivergenceDetector()
    run.well(60)
    assert verdicts(run, [1.5] * 31, ALARM) == [None] * 30 + [f"the loss has not come back in {promised} steps"]


def test_a_loss_that_comes_back_does_not_and_ends_the_suspicion(run):
    assert verdicts(run, [9.0] * 4 + [1.0] * 20, ALARM) == [None] * 24
    assert not run.ruined.suspects


def test_a_rise_below_20_percent_does_not(run):
    assert verdicts(run, [1.15] * 11, ALARM) == [None] * 11


def test_a_loss_that_stays_up_without_a_finding_proves_nothing(run):
    assert verdicts(run, [9.0] * 40) == [None] * 40


@pytest.mark.parametrize(("told", "ruins"), [(SPIKE, False), (ALARM, True)])
def test_after_a_mere_warning_a_loss_that_was_up_before_is_no_proof(run, told, ruins):
    verdicts(run, [1.5] * 25)
    assert (verdicts(run, [1.5] * 11, told)[-1] is not None) is ruins


def test_an_information_and_a_loss_alone_that_is_nan_open_nothing(run):
    assert verdicts(run, [9.0] * 11, ("level_shift", "info", 1.0), ("nonfinite", "warning", 0.0)) == [None] * 11


def test_a_matrix_that_moved_by_ten_times_its_norm_ruins_at_once(run):
    assert run.step(1.0, (1.0, 1.0), ("update_too_large", "alarm", 9.9)) is None
    assert run.step(1.0, (1.0, 1.0), ("update_too_large", "alarm", 10.0)) == "a step moved weights by 10x their norm"


def test_three_steps_without_a_finite_gradient_ruin(run):
    bad = (NAN, (NAN, NAN), ("nonfinite", "alarm", 2))
    assert [run.step(*bad), run.step(*bad)] == [None, None]
    assert run.step() is None
    assert [run.step(*bad), run.step(*bad), run.step(*bad)] == [None, None, "no finite gradient in 3 steps"]


def test_where_no_gradient_was_ever_finite_it_is_the_data(lab):
    bad = (NAN, (NAN, NAN), ("nonfinite", "alarm", 2))
    run = Run(lab)
    assert [run.step(*bad) for _ in range(5)] == [None] * 5
    run.step()
    run.ruined.load_state_dict(None)
    assert [run.step(*bad) for _ in range(5)] == [None] * 5
    assert run.step(NAN, (NAN, NAN), ("scaler_stuck", "alarm", 13)) is None


def test_a_scaler_that_is_stuck_ruins(run):
    assert run.step(NAN, (NAN, NAN), ("scaler_stuck", "alarm", 13)) == "the GradScaler finds no scale"


def test_layers_that_die_ruin_but_not_those_that_never_lived(lab):
    dead = ("dead", "alarm", 50.0)
    lived, never = Run(lab), Run(lab)
    lived.step()
    never.step(1.0, (0.0, 1.0))
    assert lived.step(1.0, (0.0, 1.0), ("dead", "warning", 50.0)) is None
    assert lived.step(1.0, (0.0, 1.0), dead) == "layers that had a gradient have died"
    assert never.step(1.0, (0.0, 1.0), dead) is None


def test_in_the_first_steps_the_loss_before_the_alarm_counts(lab):
    run = Run(lab)
    run.step(2.3)
    assert verdicts(run, [1e5] + [4.0] * 10, ALARM)[-1] == "the loss has not come back in 10 steps"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_verdict_is_free_of_scale(lab, scale):
    run = Run(lab, scale).well()
    assert [v is not None for v in verdicts(run, [1.3] * 11, ALARM)] == [False] * 10 + [True]


def test_going_back_clears_everything(run):
    state = run.ruined.state_dict()
    run.step(1.0, (1.0, 1.0), ("update_too_large", "alarm", 20.0), ALARM)
    assert run.ruined.suspects
    run.ruined.load_state_dict(state)
    assert not run.ruined.suspects
    assert run.ruined.state_dict() == state
    assert verdicts(run, [1.0] * 20) == [None] * 20


def test_ranks_whose_losses_differ_decide_by_the_mean(lab):
    asked = []

    def mean(values):
        asked.append(len(values))
        return [value + 1.0 for value in values]  # the other rank's are higher by 2

    run = Run(lab, reduce=mean).well()
    assert asked == []
    assert verdicts(run, [1.5] * 11, ALARM)[-1] is not None
    assert asked
    other = Run(lab, reduce=mean).well()
    assert verdicts(other, [1.3] * 11, ALARM)[-1] is None  # 2.3 is less than 20 % above 2
