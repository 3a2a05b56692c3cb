# SPDX-License-Identifier: Apache-2.0
"""The gradient of recurrent layers over time."""

from __future__ import annotations

from math import isnan

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_gradwatch.diagnosis import TimeProbe
from lightning_gradwatch.diagnosis.guard import SuppressErrors
from lightning_gradwatch.diagnosis.through_time import fading

T = 40
LAYERS = (nn.RNN, nn.LSTM, nn.GRU)


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def decaying(factor, steps=T):
    """[1, T] squares of a gradient that grows by `factor` per step towards the end."""
    return (factor ** (2.0 * torch.arange(steps, dtype=torch.float64)))[None].float()


def test_the_ends_of_the_profile_are_compared():
    # Of 20 steps the first tenth is steps 0, 1 and the last 18, 19: 18 factors of 2 between them.
    assert float(10 ** fading(decaying(0.5, 20))) == pytest.approx(2.0**18, rel=1e-4)
    assert float(10 ** fading(decaying(2.0, 20))) == pytest.approx(2.0**-18, rel=1e-4)


def test_padding_behind_a_sequence_does_not_count():
    padded = torch.cat([decaying(2.0, 20), torch.zeros(1, 30)], dim=1)
    assert float(fading(padded)) == pytest.approx(float(fading(decaying(2.0, 20))))


def test_the_weakest_part_of_both_directions_is_compared_with_the_strongest():
    there = decaying(2.0, 20)
    assert float(fading(there + there.flip(1), both_ways=True)) == pytest.approx(-2.6, abs=0.3)


def test_short_sequences_have_no_profile():
    assert isnan(float(fading(torch.ones(2, 9))))
    assert isnan(float(fading(torch.zeros(2, 30))))


def profile(rnn, given, **kwargs):
    """What a probe reads of one pass, and the gradients of the weights."""
    probe = TimeProbe({"rnn": rnn}, SuppressErrors())
    probe.attach()
    rnn.zero_grad()
    out = rnn(given, **kwargs)[0]
    last = (
        out.data if hasattr(out, "data") and not torch.is_tensor(out) else (out[:, -1] if rnn.batch_first else out[-1])
    )
    last.pow(2).sum().backward()
    probe.detach()
    assert probe.guard.error is None
    return probe.take(), [p.grad.clone() for p in rnn.parameters()]


def sick(**kwargs):
    torch.manual_seed(0)
    rnn = nn.RNN(3, 8, **kwargs)
    nn.init.orthogonal_(rnn.get_parameter("weight_hh_l0"), 0.3)
    return rnn


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_contracting_rnn_gets_no_gradient_at_its_first_steps(grad, batch_first):
    x = torch.randn(4, T, 3) if batch_first else torch.randn(T, 4, 3)
    ratios, _ = profile(sick(batch_first=batch_first), x.requires_grad_(grad))
    assert float(ratios["rnn"]) < -15


def test_an_orthogonal_rnn_keeps_it():
    rnn = sick(batch_first=True)
    nn.init.orthogonal_(rnn.get_parameter("weight_hh_l0"))
    ratios, _ = profile(rnn, 0.01 * torch.randn(4, T, 3))
    assert abs(float(ratios["rnn"])) < 3


def test_an_expanding_rnn_multiplies_it():
    rnn = nn.RNN(3, 8, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        rnn.get_parameter("weight_hh_l0").copy_(1.5 * torch.eye(8))
    ratios, _ = profile(rnn, torch.rand(4, T, 3))
    assert float(ratios["rnn"]) == pytest.approx(36 * torch.tensor(1.5).log10().item(), abs=0.5)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_gradients_of_the_weights_are_the_same_to_the_bit(layer, options):
    torch.manual_seed(0)
    rnn, x = layer(3, 8, **options), torch.randn(T, T, 3)
    ratios, watched = profile(rnn, x)
    rnn.zero_grad()
    out = rnn(x)[0]
    (out[:, -1] if rnn.batch_first else out[-1]).pow(2).sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(watched, rnn.parameters(), strict=True))
    assert set(ratios) == {"rnn"}
    assert not x.requires_grad
    assert x.grad is None


def test_packed_sequences_are_unpacked_for_it():
    lengths = torch.tensor([15, T, 27])  # the last step of each is read out below
    x = torch.randn(3, T, 3)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    rnn = sick(batch_first=True)
    probe = TimeProbe({"rnn": rnn}, SuppressErrors())
    probe.attach()
    rnn(packed)[1].pow(2).sum().backward()
    probe.detach()
    assert probe.guard.error is None
    # The shortest counts most: 13 of its steps lie between the tenths.
    assert -9 < float(probe.take()["rnn"]) < -5


def test_a_single_sequence_and_an_input_by_name_are_read_too():
    probe = TimeProbe({"rnn": sick()}, SuppressErrors())
    probe.attach()
    probe.layers["rnn"](input=torch.randn(T, 3))[0][-1].sum().backward()
    probe.detach()
    assert float(probe.take()["rnn"]) < -15


def test_the_input_s_own_gradient_is_left_alone():
    embedded = torch.randn(T, 4, 3, requires_grad=True)
    rnn = sick()
    (rnn(embedded)[0][-1].sum() + 1e3 * embedded.sum()).backward()
    plain, embedded.grad = embedded.grad, None
    assert plain is not None
    probe = TimeProbe({"rnn": rnn}, SuppressErrors())
    probe.attach()
    (rnn(embedded)[0][-1].sum() + 1e3 * embedded.sum()).backward()
    probe.detach()
    assert embedded.grad is not None
    assert torch.equal(embedded.grad, plain)
    assert float(probe.take()["rnn"]) < -15  # what other uses of the input add does not hide it


def test_frozen_layers_and_passes_without_gradients_are_not_read():
    rnn = sick()
    probe = TimeProbe({"rnn": rnn}, SuppressErrors())
    probe.attach()
    with torch.no_grad():
        rnn(torch.randn(T, 4, 3))
    rnn.requires_grad_(False)
    assert not rnn(torch.randn(T, 4, 3))[0].requires_grad
    probe.detach()
    assert probe.take() == {}
    assert not rnn._forward_pre_hooks
