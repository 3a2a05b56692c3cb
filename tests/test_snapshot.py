# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import numpy as np
import pytest

from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo, by_layer, joint, shares

LAYOUT = ParameterInfo(("a.weight", "a.bias", "b.c.weight", "scale"), ((2, 3), (2,), (4, 2), ()))


def snapshot(*norms, **fields):
    return GradientSnapshot(LAYOUT, np.array(norms), np.array(norms) > 0, **fields)


def test_layers_own_parameters_and_a_lone_parameter_is_its_own_layer():
    assert LAYOUT.layers == ("a", "b.c", "scale")
    assert LAYOUT.layer_of.tolist() == [0, 0, 1, 2]
    assert LAYOUT.matrix.tolist() == [True, False, True, False]
    assert LAYOUT.numel.tolist() == [6, 2, 8, 1]
    assert LAYOUT.layer(1) == "a"


def test_layers_join_their_parameters():
    assert snapshot(3.0, 4.0, 12.0, 0.0).layer_norms.tolist() == [5.0, 12.0, 0.0]
    assert snapshot(3.0, 4.0, 12.0, 0.0).total == 13.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_norm_stays_in_its_layer(bad):
    layers = by_layer(LAYOUT, np.array([bad, 4.0, 12.0, 0.0]))
    assert not math.isfinite(layers[0])
    assert layers[1:].tolist() == [12.0, 0.0]


def test_selecting_keeps_the_order_and_every_field():
    keep = np.array([2, 1])
    whole = snapshot(
        3.0, 4.0, 12.0, 1.0, weight_norms=np.arange(4.0), update_ratios=np.arange(4.0) / 10, loss=2.0, step=5
    )
    part = whole.select(keep, LAYOUT.select(keep))
    assert part.layout.names == ("b.c.weight", "a.bias")
    assert (part.norms.tolist(), part.weight_norms.tolist(), part.update_ratios.tolist()) == (
        [12, 4],
        [2, 1],
        [0.2, 0.1],
    )
    assert (part.loss, part.step, part.total) == (2.0, 5, pytest.approx(160**0.5))


def test_nothing_can_be_written():
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot(1.0, 1.0, 1.0, 1.0).step = 3


def test_shares_are_of_the_square_largest_first():
    (first, most), (second, less) = shares(LAYOUT, np.array([3.0, 4.0, 0.0, 12.0]))
    assert (first, second) == ("scale", "a")
    assert [most, less] == pytest.approx([144 / 169, 25 / 169])
    assert shares(LAYOUT, np.zeros(4)) == []
    assert len(shares(LAYOUT, np.ones(4), most=1)) == 1


def test_norms_whose_squares_overflow_are_joined_all_the_same():
    assert joint(np.array([3e200, 4e200])) == pytest.approx(5e200)
