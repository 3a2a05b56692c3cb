# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_gradwatch.laws import UnitwiseClip


def draw(shape, scale=1.0, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def agc(weight, grad, clipping=0.01, eps=1e-3):
    """Equation 3 of Brock et al. 2021, unit by unit."""
    out = grad.clone()
    for i in range(len(grad)):
        limit = clipping * max(float(weight[i].norm()), eps)
        if float(grad[i].norm()) > limit:
            out[i] = grad[i] * limit / grad[i].norm()
    return out


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 7), (4, 3, 2, 2), (2, 2, 2, 2, 2), (1, 9), (3, 0), (0, 3)])
@pytest.mark.parametrize("scale", [1e-4, 0.01, 10.0])
def test_it_equals_the_formula_of_the_paper(shape, scale):
    weight, grad = draw(shape), draw(shape, scale, seed=1)
    expected = agc(weight, grad)
    UnitwiseClip().apply_([weight], [grad], ["w"])
    assert torch.allclose(grad, expected, rtol=1e-5, atol=0)


def test_it_limits_all_parameters_of_one_call_alike():
    weights = [draw((3, 4)), draw((2, 2, 3, 3), seed=1), draw((5, 1), seed=2).double()]
    grads = [draw(w.shape, 5.0, seed=3).to(w.dtype) for w in weights]
    expected = [agc(w, g) for w, g in zip(weights, grads, strict=True)]
    UnitwiseClip().apply_(weights, grads, ["a", "b", "c"])
    assert all(torch.allclose(g, e, rtol=1e-5) for g, e in zip(grads, expected, strict=True))


def test_biases_scales_and_excluded_names_pass_untouched():
    weights = [torch.ones(4), torch.ones(()), torch.ones(2, 2), torch.ones(2, 2)]
    grads = [torch.full_like(weight, 100.0) for weight in weights]
    UnitwiseClip(exclude=["head.*", "*.norm"]).apply_(weights, grads, ["bias", "scale", "head.weight", "a.norm"])
    assert all((grad == 100).all() for grad in grads)


def test_exclude_takes_one_pattern_and_spares_only_what_matches_as_a_whole():
    weights, grads = [torch.ones(1, 1)] * 2, [torch.ones(1, 1), torch.ones(1, 1)]
    UnitwiseClip(exclude="head").apply_(weights, grads, ["head", "head.weight"])
    assert [grad.item() for grad in grads] == pytest.approx([1, 0.01])


def test_a_weight_that_starts_at_zero_still_trains():
    grad = torch.tensor([[3.0, 4.0]])
    UnitwiseClip(clipping=0.01, eps=1e-3).apply_([torch.zeros(1, 2)], [grad], ["w"])
    assert grad.tolist() == [pytest.approx([0.6e-5, 0.8e-5])]


def test_a_row_with_a_nan_is_left_as_it_is_and_the_others_are_limited():
    grad = torch.tensor([[math.nan, 5.0], [3.0, 4.0]])
    UnitwiseClip(clipping=0.1).apply_([torch.ones(2, 1).expand(2, 2)], [grad], ["w"])
    assert grad[0].isnan().tolist() == [True, False]
    assert grad[0, 1] == 5
    assert grad[1].norm() == pytest.approx(0.1 * math.sqrt(2))


def test_an_infinite_entry_stays_infinite_and_makes_no_nan():
    grad = torch.tensor([[math.inf, 1.0]])
    UnitwiseClip().apply_([torch.ones(1, 2)], [grad], ["w"])
    assert grad[0, 0] == math.inf
    assert not grad.isnan().any()


def test_a_row_too_large_for_a_norm_in_float32_becomes_smaller_than_the_limit():
    grad = torch.tensor([[3e30, -4e30]])
    UnitwiseClip(clipping=0.1).apply_([torch.ones(1, 2)], [grad], ["w"])
    assert 0 < float(grad.norm()) < 0.1
    assert float(grad[0, 0] / grad[0, 1]) == pytest.approx(-0.75)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_are_measured_in_float32(dtype):
    weight, grad = torch.ones(1, 4, dtype=dtype), torch.full((1, 4), 60000.0, dtype=dtype)
    UnitwiseClip(clipping=0.01).apply_([weight], [grad], ["w"])
    assert grad.dtype == dtype
    assert grad.float().norm() == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("scale", [8.0, torch.tensor(8.0)], ids=["number", "tensor"])
def test_the_limit_is_meant_for_gradients_without_their_scale(scale):
    weight, grad = draw((3, 4)), draw((3, 4), seed=1)
    expected = agc(weight, grad) * 8
    grad *= 8
    UnitwiseClip().apply_([weight], [grad], ["w"], scale)
    assert torch.allclose(grad, expected)


def test_a_sparse_gradient_is_limited_by_the_rows_it_holds():
    table = torch.nn.Embedding(5, 2, sparse=True)
    (table(torch.tensor([3, 1, 3])) ** 3).sum().backward()
    grad = table.weight.grad
    assert grad is not None
    expected = agc(table.weight.detach(), grad.to_dense())
    UnitwiseClip().apply_([table.weight], [grad], ["table.weight"])
    assert grad.is_sparse
    assert torch.allclose(grad.to_dense(), expected)


def test_channels_last_filters_are_limited_in_place():
    weight, grad = draw((4, 3, 2, 2)), draw((4, 3, 2, 2), seed=1)
    expected = agc(weight, grad)
    grad = grad.to(memory_format=torch.channels_last)
    UnitwiseClip().apply_([weight.to(memory_format=torch.channels_last)], [grad], ["w"])
    assert torch.allclose(grad, expected)


def test_nothing_to_limit_is_fine():
    UnitwiseClip().apply_([], [], [])
    UnitwiseClip().apply_([torch.ones(3)], [torch.ones(3)], ["bias"])


six_weights = st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6)
six_entries = st.lists(st.floats(-1e18, 1e18), min_size=6, max_size=6)


@given(six_weights, six_entries)
def test_finite_gradients_stay_finite_and_within_the_limit(weights, grads):
    weight, grad = torch.tensor(weights).view(2, 3), torch.tensor(grads).view(2, 3)
    UnitwiseClip(clipping=0.5).apply_([weight], [grad], ["w"])
    limit = 0.5 * weight.double().norm(dim=1).clamp(min=1e-3)
    assert grad.isfinite().all()
    assert (grad.double().norm(dim=1) <= limit * (1 + 1e-5)).all()
