# SPDX-License-Identifier: Apache-2.0
"""The private torch functions and their public fall-backs give the same."""

import math

import pytest
import torch

from lightning_gradwatch.measurement import kernels

TENSORS = [
    torch.tensor([3.0, 4.0]),
    torch.tensor(2.0, dtype=torch.float64),
    torch.full((300,), 300.0, dtype=torch.float16),
    torch.zeros(0, 3),
    torch.tensor([3j, 4.0]),
    torch.tensor([6.0, 8.0]),
]
NORMS = [5.0, 2.0, 300 * 300**0.5, 0.0, 5.0, 10.0]


@pytest.fixture(params=[True, False], ids=["private", "public"])
def either(request, monkeypatch):
    """With the private functions, and without."""
    if not request.param:
        for name in ("_foreach_norm", "_foreach_mul_", "_foreach_sub"):
            monkeypatch.setattr(kernels, name, None)


def test_the_private_functions_are_still_there():
    assert None not in (kernels._foreach_norm, kernels._foreach_mul_, kernels._foreach_sub)


@pytest.mark.usefixtures("either")
class TestEitherWay:
    """Each test runs with and without the private functions."""

    def test_norms_of_all_types_in_the_given_order(self):
        assert kernels.norms(TENSORS).tolist() == pytest.approx(NORMS, rel=1e-6)

    def test_norms_of_one_type(self):
        assert kernels.norms([TENSORS[0], TENSORS[5]]).tolist() == [5.0, 10.0]

    @pytest.mark.parametrize("value", [1e30, 1e-30])
    def test_double_precision_on_request(self, value):
        single = torch.tensor([value, value])
        assert kernels.norms([single], torch.float64).item() == pytest.approx(value * 2**0.5, rel=1e-6)

    def test_a_large_tensor_is_accumulated_piece_by_piece(self, monkeypatch):
        monkeypatch.setattr(kernels, "_PIECE", 6)
        tensors = [
            torch.full((5, 2), 1e-30),
            torch.ones(2),
            torch.full((1, 2, 5), 1e30).transpose(1, 2),
            torch.zeros(7),
        ]
        expected = [1e-30 * 10**0.5, 2**0.5, 1e30 * 10**0.5, 0.0]
        assert kernels.norms(tensors, torch.float64).tolist() == pytest.approx(expected, rel=1e-6)

    def test_scaling_in_place_by_a_number_and_by_a_tensor(self):
        for factor in (0.5, torch.tensor(0.5)):
            tensors = [t.clone() for t in TENSORS]
            kernels.scale_(tensors, factor)
            assert all(torch.equal(t, o * 0.5) and t.dtype == o.dtype for t, o in zip(tensors, TENSORS, strict=True))

    def test_differences(self):
        after = [t + 1 for t in TENSORS]
        pairs = zip(kernels.differences(after, TENSORS), after, TENSORS, strict=True)
        assert all(torch.equal(difference, a - b) for difference, a, b in pairs)


def test_the_largest_entry_of_all_types():
    assert kernels.max_abs(TENSORS).item() == 300.0
    assert kernels.max_abs([torch.tensor([-7.0, 3.0])]).item() == 7.0
    assert kernels.max_abs([]).item() == kernels.max_abs([torch.zeros(0)]).item() == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_largest_entry_does_not_hide_a_bad_one(bad):
    assert not math.isfinite(kernels.max_abs([torch.tensor([1.0, bad]), torch.tensor([5.0])]).item())
