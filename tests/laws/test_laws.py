# SPDX-License-Identifier: Apache-2.0
"""What all laws must do."""

import copy
import inspect
import io
import json
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_gradwatch.laws import (
    AutoClip,
    ElementwiseLaw,
    Law,
    LawName,
    NormClip,
    PercentileClip,
    UnitwiseClip,
    ValueClip,
    ZClip,
    ZScoreClip,
    as_law,
)

NORM_LAWS = {
    "norm": NormClip(0.5),
    "direction": NormClip(max_norm=10, target_norm=1),
    "percentile": PercentileClip(),
    "autoclip": PercentileClip(percentile=10, factor=1, window=20),
    "zscore": ZScoreClip(),
    "capped": ZScoreClip(z=2, alpha=0.9, warmup_steps=5, max_norm=3),
    "published": ZClip(),
    "published autoclip": AutoClip(),
}
each_norm_law = pytest.mark.parametrize("law", NORM_LAWS.values(), ids=NORM_LAWS)
norms = st.floats(min_value=2.0**-60, max_value=2.0**60, width=32)  # their ratio is a normal float32
seen_norms = st.lists(norms | st.sampled_from([0.0, math.nan, math.inf, 1.0, 1.1, 1000.0]), max_size=140)


def taught(law, values):
    law = law.clone()
    for value in values:
        law.update(value)
    return law


def saved(law):
    buffer = io.BytesIO()
    torch.save(law.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@each_norm_law
@given(seen=seen_norms, norm=norms)
def test_the_factor_is_in_0_to_1_and_takes_the_norm_to_the_limit_or_below(law, seen, norm):
    law = taught(law, seen)
    factor = law.factor(torch.tensor(norm))
    assert 0 <= factor <= 1
    if type(law) is not AutoClip:  # its percentile is that of a history with this norm in it
        assert float(factor) * norm <= law.limit() * (1 + 1e-6)
    if norm <= law.limit() * (1 - 1e-6):
        assert factor == 1


@each_norm_law
@given(before=seen_norms, after=seen_norms)
def test_a_resumed_law_gives_the_same_limits_to_the_last_bit(law, before, after):
    uninterrupted, resumed = taught(law, before), law.clone()
    resumed.load_state_dict(saved(uninterrupted))
    assert resumed.limit() == uninterrupted.limit()
    for value in after:
        uninterrupted.update(value)
        resumed.update(value)
        assert resumed.limit() == uninterrupted.limit()
        assert resumed.factor(torch.tensor(50.0)) == uninterrupted.factor(torch.tensor(50.0))


@each_norm_law
@pytest.mark.parametrize("seen", [0, 10, 200])
@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_the_factor_of_a_norm_that_is_not_finite_is_1(law, seen, norm):
    assert taught(law, [1.0, 1.5] * seen).factor(torch.tensor(norm)) == 1


@each_norm_law
def test_the_factor_is_a_0_dim_tensor_and_changes_nothing(law):
    law = taught(law, [1.0, 1.5] * 40)
    before, norm = law.state_dict(), torch.tensor(1e3)
    assert law.factor(norm).shape == ()
    assert norm == 1e3
    assert law.state_dict() == before


@each_norm_law
def test_a_saved_state_does_not_change_with_its_law(law):
    law = taught(law, [1.0, 100.0])
    state = law.state_dict()
    before = copy.deepcopy(state)
    law.update(200.0)
    assert state == before


@each_norm_law
def test_copies_go_their_own_way(law):
    law = taught(law, [1.0, 1.5] * 40)
    for twin in (copy.deepcopy(law), pickle.loads(pickle.dumps(law))):
        assert repr(twin) == repr(law)
        assert twin.limit() == law.limit()
        before = law.limit()
        for _ in range(60):
            twin.update(30.0)
        assert law.limit() == before


@each_norm_law
def test_fresh_keeps_the_configuration_and_forgets_the_norms(law):
    law = taught(law, [1.0, 1.5] * 40)
    assert repr(law.clone()) == repr(law)
    assert law.clone().state_dict() == type(law).clone(law).state_dict()
    assert taught(law, [2.0]).limit() == taught(taught(law, [7.0]), [2.0]).limit()


@each_norm_law
@pytest.mark.parametrize("state", [{}, {"law": "Other"}, None, 3, {"norms": [1.0]}])
def test_a_state_of_another_law_is_refused(law, state):
    with pytest.raises(ValueError, match=f"`state` must be saved by {type(law).__name__}, got one saved by"):
        law.load_state_dict(state)


def test_the_laws_refuse_the_states_of_each_other():
    with pytest.raises(ValueError, match="must be saved by ZScoreClip, got one saved by PercentileClip"):
        ZScoreClip().load_state_dict(PercentileClip().state_dict())
    with pytest.raises(ValueError, match="got one saved by ZClip"):
        ZScoreClip().load_state_dict(ZClip().state_dict())


@pytest.mark.parametrize("law", [ZScoreClip(), PercentileClip(), ZClip()])
def test_a_state_without_one_of_its_parts_is_refused_and_changes_nothing(law):
    law = taught(law, [1.0] * 60)
    good = law.state_dict()
    for key in good.keys() - {"law"}:
        with pytest.raises(ValueError, match=f"but it is broken .KeyError.'{key}'"):
            law.load_state_dict({name: part for name, part in good.items() if name != key})
    assert law.state_dict() == good


@pytest.mark.parametrize(
    ("law", "key", "value"),
    [
        (PercentileClip(), "norms", None),
        (PercentileClip(), "norms", "x"),
        (PercentileClip(), "norms", [0.0]),
        (PercentileClip(), "norms", ["x"]),
        (PercentileClip(), "norms", [1.0, math.nan]),
        (PercentileClip(), "streak", 1.0),
        (PercentileClip(), "streak", [math.inf]),
        (ZScoreClip(), "warmup", 3),
        (ZScoreClip(), "warmup", [-1.0]),
        (ZScoreClip(), "mean", None),
        (ZScoreClip(), "mean", "x"),
        (ZScoreClip(), "mean", math.nan),
        (ZScoreClip(), "mean", 1e9),
        (ZScoreClip(), "var", []),
        (ZScoreClip(), "var", -1.0),
        (ZScoreClip(), "var", math.inf),
    ],
)
def test_a_broken_state_is_refused_and_changes_nothing(law, key, value):
    law = taught(law, [1.0] * 60)
    good = law.state_dict()
    with pytest.raises(ValueError, match="but it is broken"):
        law.load_state_dict(good | {key: value})
    assert law.state_dict() == good


def test_a_smaller_window_takes_over_the_last_norms():
    law = PercentileClip(percentile=100, factor=1.0, window=2)
    law.load_state_dict(taught(PercentileClip(), [3.0, 1.0, 2.0]).state_dict())
    assert law.limit() == 2


def test_a_shorter_warmup_ends_with_the_next_norm():
    law = ZScoreClip(warmup_steps=3)
    law.load_state_dict(taught(ZScoreClip(), [1.0] * 10).state_dict())
    law.update(1.0)
    assert law.limit() == pytest.approx(math.exp(0.15))


@pytest.mark.parametrize(
    ("law", "shown"),
    [
        (NormClip(), "NormClip(max_norm=1.0)"),
        (NormClip(10, 1), "NormClip(max_norm=10.0, target_norm=1.0)"),
        (ValueClip(0.5), "ValueClip(value=0.5)"),
        (PercentileClip(window=100), "PercentileClip(percentile=50.0, window=100)"),
        (ZScoreClip(), "ZScoreClip(z=3.0)"),
        (ZScoreClip(max_norm=1), "ZScoreClip(z=3.0, max_norm=1.0)"),
        (UnitwiseClip(exclude="head.*"), "UnitwiseClip(clipping=0.01, exclude='head.*')"),
    ],
)
def test_a_law_shows_its_first_argument_and_what_differs_from_the_defaults(law, shown):
    assert repr(law) == shown


@pytest.mark.parametrize("law", [ValueClip(0.5), UnitwiseClip(exclude=["a", "b"])])
def test_elementwise_laws_can_be_copied(law):
    for twin in (copy.deepcopy(law), pickle.loads(pickle.dumps(law))):
        assert repr(twin) == repr(law)
        grads = [torch.ones(1, 1), torch.ones(1, 1)]
        for one, grad in zip((law, twin), grads, strict=True):
            one.apply_([torch.ones(1, 1)], [grad], ["w"])
        assert torch.equal(*grads)


@pytest.mark.parametrize(
    ("law", "argument", "value", "error"),
    [
        (NormClip, "max_norm", 0, ValueError),
        (NormClip, "max_norm", math.nan, ValueError),
        (NormClip, "max_norm", math.inf, ValueError),
        (NormClip, "max_norm", None, TypeError),
        (NormClip, "max_norm", True, TypeError),
        (NormClip, "target_norm", -1.0, ValueError),
        (NormClip, "target_norm", "1", TypeError),
        (ValueClip, "value", -1, ValueError),
        (PercentileClip, "percentile", 101, ValueError),
        (PercentileClip, "percentile", -1, ValueError),
        (PercentileClip, "factor", 0, ValueError),
        (PercentileClip, "window", 0, ValueError),
        (PercentileClip, "window", 10.0, TypeError),
        (ZScoreClip, "z", 0, ValueError),
        (ZScoreClip, "alpha", 1, ValueError),
        (ZScoreClip, "alpha", 0, ValueError),
        (ZScoreClip, "warmup_steps", 0, ValueError),
        (ZScoreClip, "max_norm", "big", TypeError),
        (UnitwiseClip, "clipping", 0, ValueError),
        (UnitwiseClip, "eps", 0, ValueError),
        (UnitwiseClip, "exclude", 3, TypeError),
        (UnitwiseClip, "exclude", [3], TypeError),
        (UnitwiseClip, "exclude", "", ValueError),
    ],
)
def test_a_bad_argument_is_named_with_what_was_given_and_what_is_allowed(law, argument, value, error):
    with pytest.raises(error) as raised:
        law(**{argument: value})
    told = str(raised.value)
    assert told.startswith(f"`{argument}` must be ")
    assert f"got {value!r}" in told


@pytest.mark.parametrize("name", ["norm", "value", "percentile", "zscore", "unitwise"])
def test_each_name_makes_its_own_law(name):
    law = as_law(name)
    assert isinstance(law, (Law, ElementwiseLaw))
    assert type(law).__name__.lower().startswith(name)
    assert as_law(name) is not law


def test_a_law_object_is_taken_as_it_is():
    law = NormClip(2.0)
    assert as_law(law) is law


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r'`law` must be one of "norm", "value", .*, got \'nope\''):
        as_law("nope")  # type: ignore[arg-type]


@pytest.mark.parametrize("law", [NormClip, 1.0, None])
def test_what_is_no_law_is_refused(law):
    with pytest.raises(TypeError, match=r"`law` must be one of 'norm', .* or a law object"):
        as_law(law)


@pytest.mark.parametrize(
    ("law", "arguments"),
    [
        (NormClip, {"max_norm": 10, "target_norm": 1}),
        (ValueClip, {"value": 0.5}),
        (PercentileClip, {"percentile": 10, "factor": 1, "window": 100}),
        (ZScoreClip, {"z": 2.5, "alpha": 0.9, "warmup_steps": 10, "max_norm": None}),
        (UnitwiseClip, {"clipping": 0.1, "eps": 0.01, "exclude": ["head.*"]}),
    ],
)
def test_the_command_line_can_build_each_law(law, arguments):
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--law", type=LawName | Law | ElementwiseLaw)
    given = {"class_path": f"{law.__module__}.{law.__name__}", "init_args": arguments}
    built = parser.instantiate(parser.parse_args([f"--law={json.dumps(given)}"])).law
    assert repr(built) == repr(law(**arguments))


DEFAULTS = {
    NormClip: {"max_norm": 1.0, "target_norm": None},
    ValueClip: {"value": 1.0},
    PercentileClip: {"percentile": 50.0, "factor": 2.0, "window": 512},
    ZScoreClip: {"z": 3.0, "alpha": 0.98, "warmup_steps": 50, "max_norm": None},
    UnitwiseClip: {"clipping": 0.01, "eps": 1e-3, "exclude": None},
}


@pytest.mark.parametrize(("law", "defaults"), DEFAULTS.items(), ids=lambda given: getattr(given, "__name__", ""))
def test_the_defaults_are_the_documented_ones(law, defaults):
    assert {name: argument.default for name, argument in inspect.signature(law).parameters.items()} == defaults
