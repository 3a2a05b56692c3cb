# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from lightning_gradwatch.laws import ValueClip


def test_it_equals_clip_grad_value_():
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 for shape in ((3, 4), (5,), ())]
    weights = [torch.zeros_like(grad) for grad in drawn]
    for weight, grad in zip(weights, drawn, strict=True):
        weight.grad = grad.clone()
    torch.nn.utils.clip_grad_value_(weights, 0.5)
    ValueClip(0.5).apply_(weights, drawn, ["a", "b", "c"])
    assert all(
        torch.equal(grad, weight.grad) for grad, weight in zip(drawn, weights, strict=True) if weight.grad is not None
    )


def test_nan_stays_and_inf_is_clamped():
    grad = torch.tensor([math.nan, math.inf, -math.inf, 0.25])
    ValueClip(1.0).apply_([torch.zeros(4)], [grad], ["w"])
    assert grad[0].isnan()
    assert grad[1:].tolist() == [1.0, -1.0, 0.25]


@pytest.mark.parametrize("scale", [8.0, torch.tensor(8.0)], ids=["number", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_limit_is_meant_for_gradients_without_their_scale(scale, dtype):
    grad = torch.tensor([-100.0, 4.0, 100.0], dtype=dtype)
    ValueClip(1.0).apply_([torch.zeros(3)], [grad], ["w"], scale)
    assert grad.tolist() == [-8, 4, 8]
    assert grad.dtype == dtype


@pytest.mark.parametrize("scale", [2.0**17, torch.tensor(2.0**17)], ids=["number", "tensor"])
def test_a_limit_beyond_float16_clamps_nothing_there_and_still_holds_in_float32(scale):
    half, single = torch.tensor([60000.0], dtype=torch.float16), torch.tensor([1e6])
    ValueClip(1.0).apply_([half, single], [half, single], ["a", "b"], scale)
    assert (half.item(), single.item()) == (60000, 2**17)


def test_a_sparse_gradient_is_clamped_after_its_duplicates_are_added():
    values = torch.tensor([[0.75], [0.75], [0.5]])
    grad = torch.sparse_coo_tensor(torch.tensor([[1, 1, 3]]), values, (4, 1), check_invariants=True)
    ValueClip(1.0).apply_([torch.zeros(4, 1)], [grad], ["table.weight"])
    assert grad.to_dense().flatten().tolist() == [0, 1, 0, 0.5]


def test_no_gradients_at_all_are_fine():
    ValueClip().apply_([], [], [])
    ValueClip().apply_([], [], [], torch.tensor(2.0))
