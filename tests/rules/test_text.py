# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lightning_gradwatch.rules.text import listed, number, where


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (62.0, "62"),
        (2.0, "2"),
        (0.24, "0.24"),
        (0.012, "0.012"),
        (0.002, "2e-3"),
        (310.0, "310"),
        (999.0, "1e3"),
        (31234.0, "3.1e4"),
        (7e-15, "7e-15"),
        (-0.5, "-0.5"),
        (0.0, "0"),
        (float("nan"), "NaN"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
    ],
)
def test_a_number_has_two_significant_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(2.3026, "2.303"), (1234.4, "1234"), (12345.0, "1.234e4"), (1e-5, "1e-5")])
def test_a_loss_has_four_significant_digits(value, text):
    assert number(value, 4) == text


def test_at_most_three_names_are_listed():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(list("abcdefgh")) == "a, b, c and 5 more"


def test_shares_are_percent():
    assert where([("a.b", 0.912), ("c", 0.06)]) == "where: a.b 91 %, c 6 %"
