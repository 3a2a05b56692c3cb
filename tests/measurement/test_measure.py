# SPDX-License-Identifier: Apache-2.0
"""`measure` and `Meter` against torch's own norms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_gradwatch import measure
from lightning_gradwatch.measurement.meter import Meter, clean_name, to_host


def with_gradients(*gradients):
    """A module with parameters p0, p1, ... that have these gradients; None for none."""
    module = nn.Module()
    for i, gradient in enumerate(gradients):
        parameter = nn.Parameter(torch.ones_like(torch.zeros(3) if gradient is None else gradient))
        parameter.grad = gradient
        module.register_parameter(f"p{i}", parameter)
    return module


@given(st.lists(st.lists(st.floats(-(2.0**50), 2.0**50, width=32), min_size=1, max_size=9), min_size=1, max_size=6))
def test_norms_and_total_are_torchs(entries):
    gradients = [torch.tensor(numbers) for numbers in entries]
    snapshot = measure(with_gradients(*gradients))
    each = [torch.linalg.vector_norm(g.double()).item() for g in gradients]
    assert snapshot.norms == pytest.approx(each, rel=1e-5, abs=1e-40)
    assert snapshot.total == pytest.approx(
        torch.nn.utils.get_total_norm([g.double() for g in gradients]).item(), rel=1e-5
    )
    assert snapshot.max_abs == max(g.abs().max().item() for g in gradients)


def test_what_has_no_gradient_is_not_present():
    snapshot = measure(with_gradients(torch.tensor([3.0, 4.0]), None))
    assert snapshot.norms.tolist() == [5.0, 0.0]
    assert snapshot.present.tolist() == [True, False]


def test_without_any_gradient_everything_is_zero():
    snapshot = measure(with_gradients(None, None))
    assert (snapshot.total, snapshot.max_abs) == (0.0, 0.0)
    assert not snapshot.present.any()


def test_without_any_parameter_too():
    assert measure(nn.Module()).total == 0.0


def test_the_scale_is_undone():
    snapshot = measure(with_gradients(torch.tensor([3.0, 4.0]) * 1024), scale=torch.tensor(1024.0))
    assert (snapshot.total, snapshot.max_abs) == (5.0, 4.0)


@pytest.mark.parametrize("value", [1e30, 1e-30, 3e38, 1e-44])
def test_extreme_entries_are_measured_in_double_precision(value):
    entry = torch.tensor([value, value])
    assert measure(with_gradients(entry)).total == pytest.approx(entry.double().norm().item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_does_not_overflow(dtype):
    gradient = torch.full((10_000,), 1000.0, dtype=dtype)
    assert measure(with_gradients(gradient)).total == pytest.approx(1e5, rel=1e-2)


def test_a_mix_of_types_and_shapes():
    gradients = [torch.full((2, 2), 1.0, dtype=t) for t in (torch.float16, torch.float64, torch.bfloat16)]
    gradients += [torch.tensor(2.0), torch.zeros(0, 3), torch.tensor([3j, 4.0])]
    snapshot = measure(with_gradients(*gradients))
    assert snapshot.norms.tolist() == [2.0, 2.0, 2.0, 2.0, 0.0, 5.0]
    assert snapshot.max_abs == 4.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_entry_stays_in_its_parameter(bad):
    snapshot = measure(with_gradients(torch.tensor([3.0, 4.0]), torch.tensor([bad, 0.0])))
    assert snapshot.norms[0] == 5.0
    assert not math.isfinite(snapshot.norms[1])
    assert not math.isfinite(snapshot.total)
    assert snapshot.max_abs is not None
    assert not math.isfinite(snapshot.max_abs)


def test_infinite_and_undefined_are_told_apart():
    norms = measure(with_gradients(torch.tensor([math.inf]), torch.tensor([math.nan]))).norms
    assert np.isinf(norms[0])
    assert np.isnan(norms[1])


def test_measuring_changes_nothing():
    gradients = [
        torch.randn(5),
        torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.tensor([2.0, 3.0]), (5,), check_invariants=True),
    ]
    module = with_gradients(gradients[0])
    module.p1 = nn.Parameter(torch.ones(5))
    module.p1.grad = gradients[1]
    before = gradients[0].clone()
    assert measure(module).norms[1] == 5.0
    assert torch.equal(module.p0.grad, before)
    assert module.p1.grad is gradients[1]
    assert not gradients[1].is_coalesced()


def test_sharing_puts_what_was_measured_in_place_of_a_sparse_gradient():
    module = nn.Embedding(4, 2, sparse=True)
    module(torch.tensor([1, 1, 3])).sum().backward()
    meter = Meter(module.named_parameters())
    reading = meter.read()
    meter.ensure_inplace(reading)
    reading.gradients[0].mul_(0.5)
    assert module.weight.grad is not None
    assert module.weight.grad.to_dense()[[1, 3]].tolist() == [[1.0, 1.0], [0.5, 0.5]]


def test_weight_norms_and_the_rest_are_passed_on():
    snapshot = measure(with_gradients(torch.zeros(4)), step=7, lr=0.1, loss=2.0)
    assert (snapshot.step, snapshot.lr, snapshot.loss) == (7, 0.1, 2.0)
    assert snapshot.weight_norms is not None
    assert snapshot.weight_norms.tolist() == [2.0]
    assert measure(with_gradients(torch.zeros(4)), weights=False).weight_norms is None
    assert measure(with_gradients(torch.zeros(4)), max_abs=False).max_abs is None


def test_pairs_of_names_and_parameters_do_as_well_as_a_module():
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    assert measure(list(layer.named_parameters())).total == measure(layer).total == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("_orig_mod.net.0.weight", "net.0.weight"),
        ("net._orig_mod.0.weight", "net.0.weight"),
        ("module.net.0.weight", "net.0.weight"),
        ("_fsdp_wrapped_module.net._checkpoint_wrapped_module.0.weight", "net.0.weight"),
        ("my_module.weight", "my_module.weight"),
        ("net.module.weight", "net.module.weight"),
    ],
)
def test_names_are_the_users(name, clean):
    assert clean_name(name) == clean


@pytest.mark.parametrize(
    "values", [torch.tensor([1.0, 2.0], dtype=torch.bfloat16), torch.tensor(True), np.array([True])]
)
def test_to_host_takes_every_type(values):
    assert to_host(values).dtype == np.float64
    assert to_host(values)[0] == 1.0
