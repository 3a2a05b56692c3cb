# SPDX-License-Identifier: Apache-2.0
"""From evidence to a cause."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from lightning_gradwatch.diagnosis import Activation, Evidence, Input, Scale, Setup, diagnosed, explained, find_cause
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.remedies import remedies
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo

SOUND = Input("batch[0]", 0, 0, 1.0, 3.0)
NOW = GradientSnapshot(
    ParameterInfo(("a.weight",), ((2, 2),)), np.ones(1), np.array([True]), step=904, log_step=903, epoch=2, batch_idx=45
)
BARE = Setup(normalised=False)
SIGMOIDS = [Activation(f"net.{i}", "sigmoid", 0.0) for i in range(19)]


def of(kind, **evidence):
    cause = find_cause(EventKind(kind), Evidence(**evidence))
    return None if cause is None else (cause.text, cause.row, cause.layers)


def test_sigmoids_multiply_their_derivatives():
    text = "sigmoid derivatives of at most 1/4, multiplied over 19 layers"
    assert of("vanishing", activations=SIGMOIDS) == (text, 1, ())
    assert of("vanishing", activations=SIGMOIDS, setup=BARE) == (f"{text}; no normalisation layer", 1, ())


def test_standard_normal_weights_are_named():
    gains = {"a": (8.0, 1.0), "b": (4.5, 1.02), "c": (0.6, 0.07)}
    flat = [Activation("a", "tanh", 0.77), Activation("b", "tanh", 0.4)]
    assert of("saturated", gains=gains, activations=flat) == (
        "N(0, 1) weights in a, b: 4.5 to 8 times what preserves the variance;"
        " 77 % of the tanh outputs saturated after a",
        17,
        ("a", "b"),
    )
    assert of("explosion", gains={"a": (16.0, 2.0)}) == (
        "weights too large in a: 16 times what preserves the variance",
        21,
        ("a",),
    )


def test_weights_that_are_too_small_in_most_layers_are_the_cause():
    gains = {"a": (0.1, 0.01), "b": (0.12, 0.01), "c": (0.6, 0.07)}
    text = "weights too small in a, b: 0.1 to 0.12 times what preserves the variance"
    assert of("vanishing", gains=gains, activations=SIGMOIDS) == (text, 2, ("a", "b"))
    assert of("vanishing", gains={"a": (0.1, 0.01), "b": (0.6, 0.1), "c": (0.6, 0.1)}) is None


def test_silent_and_saturated_units_are_told_with_their_layers_worst_first():
    silent = [Activation("a", "relu", 0.96), Activation("b", "relu", 0.5), Activation("c", "relu", 1.0)]
    assert of("dead", activations=silent) == ("100 % of the ReLUs silent after c, a", 15, ("c", "a"))
    flat = [Activation("a", "sigmoid", 0.94)]
    scales = [Scale("a", 100.0, 5.0)]
    large = Input("batch[0]", 0, 0, 100.0, 300.0)
    assert of("saturated", activations=flat, scales=scales, inputs=[large]) == (
        "94 % of the sigmoid outputs saturated after a: the inputs are large, batch[0] has rms 100",
        17,
        ("a",),
    )
    assert of("saturated", activations=flat, inputs=[SOUND]) == (
        "94 % of the sigmoid outputs saturated after a",
        17,
        ("a",),
    )


@pytest.mark.parametrize("kind", ["nonfinite", "vanishing", "spike"])
def test_inputs_that_are_not_finite_explain_everything(kind):
    bad = Input('batch["x"]', 3, 0, nan, nan)
    assert of(kind, inputs=[SOUND, bad], activations=SIGMOIDS) == ('the input: batch["x"] holds 3 NaN', 11, ())


def test_the_first_layer_that_makes_inf_of_finite_numbers_is_named():
    scales = [Scale("a", 1.0, 1.0), Scale("b", 2.0, inf), Scale("c", inf, nan)]
    assert of("nonfinite", scales=scales) == ("the forward pass at b: finite in (rms 2), not finite out", 10, ("b",))


def test_an_explosion_is_explained_by_inputs_growth_or_speed():
    assert of("explosion", inputs=[Input("batch", 0, 0, 300.0, 900.0)]) == (
        "the inputs are far from order 1: batch has rms 300",
        6,
        (),
    )
    scales = [Scale(str(i), 1.0, 2.0**i) for i in range(6)]
    assert of("explosion", scales=scales, setup=BARE) == (
        "the signal grows x2 per layer over 6 layers; no normalisation layer",
        21,
        (),
    )
    assert of("update_too_large", update=0.5) == (
        "the learning rate is too high: weights move by 0.5 of their norm per step",
        5,
        (),
    )


def test_zeros_that_go_into_the_first_layer_are_told():
    scales = [Scale("net.0", 0.0, 0.1), Scale("net.2", 0.1, 0.2)]
    silent = [Activation("net.0", "relu", 1.0)]
    assert of("dead", scales=scales, activations=silent) == (
        "the input: all that goes into net.0 is exactly 0",
        11,
        ("net.0",),
    )
    assert of("dead", scales=scales[::-1]) is None


def test_residual_paths_without_normalisation_pile_up_the_signal():
    scales = [Scale(str(i), 1.2**i, 1.0) for i in range(30)]
    text = "the signal grows x200 along residual paths; no normalisation layer"
    assert of("explosion", scales=scales, residual=True, setup=BARE) == (text, 22, ())
    assert of("explosion", scales=scales, residual=True) is None
    assert of("explosion", scales=scales, setup=BARE) is None
    assert of("explosion", scales=[Scale(str(i), 1.01**i, 1.0) for i in range(30)], residual=True, setup=BARE) is None


@pytest.mark.parametrize(
    ("kind", "setup", "text", "row"),
    [
        ("dead", Setup(unscaled_half=True), "underflow: the weights are in float16, without a GradScaler", 14),
        ("vanishing", Setup(decay=0.3), "the weight decay takes 30 % of the weights per step", 24),
        ("stalled", Setup(clipped=2e6), "the Trainer's clipping leaves 1/2e6 of the gradient", 26),
        (
            "update_too_large",
            Setup(post_norm=True, step=10),
            "transformer layers that normalise after the addition, and no warm-up yet",
            23,
        ),
    ],
)
def test_how_it_is_trained_explains(kind, setup, text, row):
    assert of(kind, setup=setup, update=1e-8) == (text, row, ())


def test_moderate_settings_explain_nothing():
    moderate = Setup(decay=1e-4, clipped=5.0, post_norm=True, step=5000)
    assert of("stalled", setup=moderate, update=1e-8) is None
    assert of("vanishing", setup=Setup(clipped=2e6), update=1e-3) is None


@pytest.mark.parametrize("kind", [kind.value for kind in EventKind])
def test_sound_evidence_explains_nothing(kind):
    scales = [Scale(str(i), 1.0, 1.0) for i in range(6)]
    units = [Activation("0", "relu", 0.5), Activation("1", "tanh", 0.5)]
    assert of(kind, inputs=[SOUND], activations=units, scales=scales, gains={"0": (1.4, 0.2)}, update=1e-3) is None
    assert of(kind) is None


FOUND = GradientEvent(
    EventKind.NONFINITE, Severity.ALARM, 900, 900, 2, 41, None, 0, ("a",), 1.0, 0.0, "NaN", "the loss", remedies(11)
)


def event(kind=EventKind.NONFINITE, row=11):
    return replace(FOUND, kind=kind, remedies=remedies(row))


def test_a_bad_batch_is_told_with_the_finding_itself():
    told = explained(event(), [Input('batch["x"]', 3, 0, nan, nan)], nan, all_seen=True)
    assert told.cause == 'the input: batch["x"] holds 3 NaN; the loss was NaN before the backward pass'
    assert told.remedies == remedies(11)
    assert (
        explained(event(), [Input("batch", 1, 0, nan, nan)], 0.5, all_seen=True).cause == "the input: batch holds 1 NaN"
    )


def test_the_rank_whose_batch_was_bad_is_told_on_the_others():
    told = explained(event(), [SOUND], 0.5, at_fault=[3], all_seen=True)
    assert (told.cause, told.rank) == ("the input: the batch of rank 3 holds NaN or inf", 3)
    told = explained(event(), [SOUND], 0.5, at_fault=[1, 3], all_seen=True)
    assert (told.cause, told.rank) == ("the input: the batch of rank 1 and 3 holds NaN or inf", None)


def test_a_sound_batch_is_evidence_only_where_it_is_the_only_one():
    told = explained(event(), [SOUND], nan, all_seen=True)
    assert (told.cause, told.remedies) == ("the loss; the inputs are finite", remedies(10))
    assert explained(event(), [SOUND], nan, all_seen=False) == event()
    assert explained(event(), [], nan, all_seen=True) == event()


def test_the_result_is_for_information_and_of_the_same_kind():
    dead = event(EventKind.DEAD, 16)
    told = diagnosed(dead, [], Evidence(activations=[Activation("b", "relu", 1.0)], setup=BARE), 3, NOW)
    assert told is not None
    assert (told.kind, told.severity, told.step, told.log_step, told.batch_idx) == ("dead", "info", 904, 903, 45)
    assert (told.layers, told.remedies) == (("b",), remedies(16))  # not those for units that never fired
    assert told.message.splitlines() == [
        "diagnosed from 3 batches after the alarm of step 900",
        "units: 100 % of the ReLUs silent after b",
        "net: no normalisation layer, no residual path",
    ]


def test_what_adds_nothing_is_not_told():
    silent = Evidence(activations=[Activation("b", "relu", 1.0)], setup=BARE)
    dead = event(EventKind.DEAD, 16)
    assert diagnosed(dead, [], Evidence(), 3, NOW) is None
    told = diagnosed(dead, [], silent, 3, NOW)
    assert told is not None
    assert diagnosed(replace(dead, cause=told.cause), [], silent, 3, NOW) is None


def test_weights_that_are_not_finite_any_more_blame_nobody():
    ruined = replace(NOW, weight_norms=np.array([np.nan]))
    passes_on = Evidence(scales=[Scale("a", 1.0, np.nan)])
    assert diagnosed(event(EventKind.NONFINITE, 10), [], passes_on, 3, NOW) is not None
    assert diagnosed(event(EventKind.NONFINITE, 10), [], passes_on, 3, ruined) is None


def test_the_batch_of_a_spike_is_held_against_those_that_followed():
    then = [Input("batch[0]", 0, 0, 200.0, 900.0)]
    told = diagnosed(event(EventKind.SPIKE, 8), then, Evidence(inputs=[SOUND]), 3, NOW)
    assert told is not None
    assert told.cause == "an outlier batch: batch[0] of batch 41 has 200 times the rms of those that followed"
    assert diagnosed(event(EventKind.SPIKE, 8), [SOUND], Evidence(inputs=[SOUND]), 3, NOW) is None
