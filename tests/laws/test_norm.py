# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from lightning_gradwatch.laws import NormClip


@pytest.mark.parametrize("max_norm", [0.01, 0.5, 5.0])
def test_it_equals_clip_grad_norm_to_the_last_bit_when_it_clips(max_norm):
    weight = torch.nn.Parameter(torch.zeros(3, 4))
    weight.grad = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * 10
    mine, norm = weight.grad.clone(), weight.grad.norm()
    torch.nn.utils.clip_grad_norm_([weight], max_norm)
    assert norm > max_norm
    assert torch.equal(mine * NormClip(max_norm).factor(norm), weight.grad)


def test_the_limit_itself_passes_untouched():
    assert NormClip(2.0).factor(torch.tensor(2.0)) == 1
    assert NormClip(2.0).limit() == 2


def test_direction_only_leaves_ten_alone_and_makes_twenty_one():
    law = NormClip(max_norm=10, target_norm=1)
    assert law.factor(torch.tensor(10.0)) == 1
    assert law.factor(torch.tensor(20.0)) * 20 == pytest.approx(1)


def test_what_it_saw_changes_nothing():
    law = NormClip(2.0)
    law.update(1000.0)
    assert law.limit() == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_factor_has_the_dtype_of_the_norm(dtype):
    factor = NormClip(1.0).factor(torch.tensor(4.0, dtype=dtype))
    assert factor.dtype == dtype
    assert factor.shape == ()
    assert float(factor) == pytest.approx(0.25, rel=1e-2)


def test_a_target_above_the_limit_is_refused():
    with pytest.raises(ValueError, match=r"`target_norm` must be at most `max_norm` = 1.0, got 2.0\."):
        NormClip(max_norm=1.0, target_norm=2.0)
