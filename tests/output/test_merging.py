# SPDX-License-Identifier: Apache-2.0
import time

import numpy as np
import pytest

from lightning_gradwatch.output.merging import Merging
from lightning_gradwatch.snapshot import ParameterInfo, by_layer


def transformer(
    blocks, parts=("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj", "input_layernorm")
):
    names = ["model.embed_tokens.weight"]
    for block in range(blocks):
        names += [f"model.layers.{block}.{part}.weight" for part in parts]
    return ParameterInfo((*names, "model.norm.weight", "lm_head.weight"), ((4, 4),) * (blocks * len(parts) + 3))


def test_few_layers_keep_their_names():
    assert Merging(("a", "b.c", "d"), 3).names == ("a", "b.c", "d")


def test_layers_are_cut_back_to_their_blocks():
    names = Merging(transformer(12).layers, 32).names
    assert names == ("model.embed_tokens", *(f"model.layers.{i}" for i in range(12)), "model.norm", "lm_head")


def test_neighbouring_blocks_are_joined_where_there_are_too_many():
    names = Merging(transformer(80).layers, 32).names
    assert len(names) <= 32
    assert names[:2] == ("model.embed_tokens", "model.layers.0-2")
    assert names[-2:] == ("model.norm", "lm_head")


@pytest.mark.parametrize("most", [1, 2, 3, 5, 32])
@pytest.mark.parametrize("blocks", [1, 7, 100, 1999])
def test_there_are_never_more_lines_than_asked_for(blocks, most):
    layers = transformer(blocks).layers
    merging = Merging(layers, most)
    families = 4  # embedding, blocks, norm, head: what no joining of neighbours can bring together
    assert len(merging.names) <= max(most, families)
    assert merging.line_of.max() == len(merging.names) - 1
    assert len(merging.line_of) == len(layers)


def test_ten_thousand_tensors_take_little_time_and_give_readable_names():
    layout = transformer(2000)
    assert len(layout.names) == 10_003
    start = time.process_time()
    merging = Merging(layout.layers, 32)
    assert time.process_time() - start < 1.0  # once per run
    assert len(merging.names) <= 32
    assert max(map(len, merging.names)) < 40
    norms = np.ones(len(layout.names))
    start = time.process_time()
    for _ in range(20):
        values = merging.norms(by_layer(layout, norms))
    assert (time.process_time() - start) / 20 < 0.01  # per logged step
    assert values @ values == pytest.approx(10_003)


def test_norms_are_joined_not_added():
    merging = Merging(("net.0.a", "net.0.b", "head"), 2)
    assert merging.names == ("net.0", "head")
    assert merging.norms(np.array([3.0, 4.0, 2.0])).tolist() == [5.0, 2.0]


def test_a_flat_list_of_many_layers_is_joined_by_neighbours():
    names = Merging(tuple(f"layer{i}" for i in range(100)), 10).names
    assert len(names) <= 10
    assert names[0].startswith("layer0-")


def test_no_layers_at_all():
    assert Merging((), 32).names == ()
