# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from lightning_gradwatch.arguments import between, fraction, one_of, optional, patterns, positive, whole_number


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_positive_is_finite_and_above_0(value):
    assert positive("x", np.float32(0.5)) == 0.5
    with pytest.raises(ValueError, match="`x` must be a finite number above 0, got "):
        positive("x", value)


@pytest.mark.parametrize("value", [0, 1, 1.5, math.nan])
def test_a_fraction_lies_between_0_and_1(value):
    assert fraction("x", 0.5) == 0.5
    with pytest.raises(ValueError, match="`x` must be a number above 0 and below 1, got "):
        fraction("x", value)


@pytest.mark.parametrize("value", [-0.1, 100.1, math.nan])
def test_between_includes_both_ends(value):
    assert [between("x", end, 0, 100) for end in (0, 100)] == [0, 100]
    with pytest.raises(ValueError, match="`x` must be a number from 0 to 100, got "):
        between("x", value, 0, 100)


@pytest.mark.parametrize("check", [positive, fraction, whole_number])
@pytest.mark.parametrize("value", ["1", None, True, [1]])
def test_what_is_no_number_is_a_type_error(check, value):
    with pytest.raises(TypeError, match="`x` must be a "):
        check("x", value)


def test_whole_numbers_start_at_least_and_are_no_floats():
    assert whole_number("x", np.int64(0), least=0) == 0
    with pytest.raises(ValueError, match="`x` must be a whole number of at least 1, got 0"):
        whole_number("x", 0)
    with pytest.raises(TypeError, match=r"`x` must be a whole number of at least 1, got 2\.0"):
        whole_number("x", 2.0)


def test_one_of_names_the_choices():
    assert one_of("x", "warn", ("warn", "stop")) == "warn"
    with pytest.raises(ValueError, match='`x` must be one of "warn", "stop", got \'explode\''):
        one_of("x", "explode", ("warn", "stop"))
    with pytest.raises(TypeError, match='`x` must be one of "warn", "stop", got 3'):
        one_of("x", 3, ("warn", "stop"))


def test_patterns_are_none_one_or_several():
    assert patterns("x", None) == ()
    assert patterns("x", "head.*") == ("head.*",)
    assert patterns("x", ["a", "b"]) == ("a", "b")
    with pytest.raises(TypeError, match="`x` must be a name pattern"):
        patterns("x", ["a", 1])
    with pytest.raises(ValueError, match="`x` must be a name pattern"):
        patterns("x", "")


def test_optional_lets_none_pass_and_checks_the_rest():
    assert optional(positive, "x", None) is None
    assert optional(positive, "x", 1) == 1.0
    with pytest.raises(ValueError, match="`x` must be"):
        optional(positive, "x", 0)


def test_an_error_says_what_to_do():
    with pytest.raises(ValueError, match="Give such a value, or leave `x` out for its default"):
        positive("x", 0)
