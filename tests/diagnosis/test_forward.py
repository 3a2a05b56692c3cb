# SPDX-License-Identifier: Apache-2.0
"""A look at one forward pass."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_gradwatch.diagnosis import ForwardProbe, hidden
from lightning_gradwatch.diagnosis.guard import SuppressErrors


def each(name, values):
    return pytest.mark.parametrize(name, values, ids=range(len(values)))


class Called(nn.Module):
    """A linear layer that passes its input on as it is, and a function."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Linear(2, 2, bias=False), function
        nn.init.eye_(self.layer.weight)

    def forward(self, x):
        return self.function(self.layer(x))


def look(net, *args):
    """What a probe reads of one pass, as floats."""
    probe = ForwardProbe(net, SuppressErrors())
    probe.attach()
    net(*args)
    probe.detach()
    assert probe.guard.error is None
    return {name: float(value) for name, value in probe.take().items()}


@each("function", [nn.ReLU(), nn.ReLU(inplace=True), functional.relu, torch.relu, lambda x: x.relu()])
def test_the_share_of_units_that_are_silent_on_the_whole_batch(function):
    # The first unit is silent twice, the second once.
    numbers = look(Called(function), torch.tensor([[-1.0, -1.0], [-1.0, 1.0]]))
    assert numbers["silent relu layer"] == 0.5


@each("function", [nn.Tanh(), torch.tanh, functional.tanh, lambda x: x.tanh(), lambda x: x.clone().tanh_()])
def test_the_share_of_tanh_outputs_without_slope(function):
    # The derivative is 5 % of its maximum at 2.18.
    assert look(Called(function), torch.tensor([[0.0, 2.1], [2.3, -9.0]]))["flat tanh layer"] == 0.5


@each("function", [nn.Sigmoid(), torch.sigmoid, functional.sigmoid])
def test_the_share_of_sigmoid_outputs_without_slope(function):
    # 5 % of its maximum at 4.36.
    assert look(Called(function), torch.tensor([[0.0, 4.3], [4.4, -20.0]]))["flat sigmoid layer"] == 0.5


@each("function", [nn.Softsign(), functional.softsign])
def test_the_share_of_softsign_outputs_without_slope(function):
    # 5 % of its maximum at 3.47.
    assert look(Called(function), torch.tensor([[0.0, 3.4], [3.6, -20.0]]))["flat softsign layer"] == 0.5


@each("function", [nn.Hardtanh(), functional.hardtanh, nn.Hardsigmoid(), functional.hardsigmoid])
def test_the_share_of_outputs_at_the_ends_of_a_hard_function(function):
    numbers = look(Called(function), torch.tensor([[0.0, 0.9], [3.1, -20.0]]))
    assert [value for name, value in numbers.items() if name.startswith("flat hard")] == [0.5]


@each("function", [nn.ReLU6(), functional.relu6])
def test_a_clipped_relu_is_silent_like_another(function):
    assert look(Called(function), torch.tensor([[-1.0, -1.0], [-1.0, 9.0]]))["silent relu layer"] == 0.5


class Around(nn.Module):
    """Two layers, and something that is made of their input and their output."""

    def __init__(self, join):
        super().__init__()
        self.first, self.second, self.join = nn.Linear(2, 2), nn.Linear(2, 2), join

    def forward(self, x):
        return self.join(x, self.second(self.first(x)))


@each(
    "join",
    [torch.add, lambda x, h: x + h, lambda x, h: h.add_(x), lambda x, h: torch.cat([h, x], 1), operator.iadd],
)
def test_a_path_around_layers_is_seen(join):
    assert "residual" in look(Around(join), torch.randn(3, 2))


@each("join", [lambda x, h: h, lambda x, h: h + 1, lambda x, h: h + h, lambda x, h: torch.cat([h, h])])
def test_what_passes_through_the_layers_is_no_path_around_them(join):
    assert "residual" not in look(Around(join), torch.randn(3, 2))


def test_a_unit_of_a_convolution_is_a_channel():
    layer = nn.Conv1d(1, 2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1))
    assert look(nn.Sequential(layer, nn.ReLU()), torch.ones(3, 1, 5))["silent relu 0"] == 0.5


def test_the_scale_of_each_layer_is_read_before_and_behind_it():
    layers = [nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)]
    nn.init.constant_(layers[0].weight, 3.0)
    nn.init.constant_(layers[1].weight, 0.5)
    numbers = look(nn.Sequential(*layers), torch.tensor([[1.0], [-1.0]]))
    assert numbers == {"in 0": 1.0, "out 0": 3.0, "in 1": 3.0, "out 1": 1.5}


def test_the_output_of_a_tanh_rnn_counts_as_its_units():
    rnn = nn.RNN(1, 4, batch_first=True)
    nn.init.constant_(rnn.get_parameter("weight_ih_l0"), 100.0)
    assert look(nn.Sequential(rnn), torch.ones(2, 3, 1))["flat tanh 0"] == 1.0


def test_an_output_may_saturate_but_not_be_silent():
    names = ["out a", "flat tanh a", "in b", "out b", "silent relu b", "out c", "flat sigmoid c", "silent relu c"]
    assert hidden(names) == [("flat", "tanh", "a"), ("silent", "relu", "b"), ("silent", "relu", "c")]
    assert hidden([]) == []


def test_nothing_is_left_behind_and_nothing_is_seen_afterwards():
    net = Called(functional.relu)
    probe = ForwardProbe(net, SuppressErrors())
    probe.attach()
    probe.detach()
    net(torch.ones(1, 2))
    assert not any(module._forward_hooks for module in net.modules())
    assert probe.take() == {}


def test_what_goes_wrong_in_the_probe_does_not_reach_the_training(monkeypatch):
    net = Called(functional.relu)
    probe = ForwardProbe(net, SuppressErrors())
    monkeypatch.setattr(probe, "_put", lambda *_: 1 / 0)
    probe.attach()
    assert torch.equal(net(torch.ones(1, 2)), torch.ones(1, 2))
    probe.detach()
    assert isinstance(probe.guard.error, ZeroDivisionError)


def test_what_goes_wrong_in_the_training_is_not_swallowed():
    net = Called(lambda x: torch.relu(x[5]))
    probe = ForwardProbe(net, SuppressErrors())
    probe.attach()
    with pytest.raises(IndexError):
        net(torch.ones(1, 2))
    probe.detach()
    assert probe.guard.error is None
