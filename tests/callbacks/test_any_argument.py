# SPDX-License-Identifier: Apache-2.0
"""Whatever is given for an argument: a callback that works, or one sentence that names the argument."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["warn", "clip", "skip", "stop", "abort", "norm", "zscore", "epoch", "group", "spike"]),
    st.lists(st.sampled_from(["spike", "nonfinite", "net.*", 3, None]), max_size=3),
    st.binary(max_size=3),
)


@pytest.mark.parametrize(
    "cls",
    [AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector],
    ids=lambda c: c.__name__,
)
@settings(max_examples=150)
@given(data=st.data())
def test_an_argument_is_accepted_or_named(cls, data):
    name = data.draw(st.sampled_from(sorted(inspect.signature(cls).parameters)))
    value = data.draw(ANYTHING)
    try:
        made = cls(**{name: value})
    except (TypeError, ValueError) as error:
        text = str(error)
        assert f"`{name}`" in text
        assert text.endswith(".")
        assert "\n" not in text.replace(repr(value), "")
    else:
        assert made.load_state_dict(made.state_dict()) is None
        assert isinstance(made.describe(), str)
