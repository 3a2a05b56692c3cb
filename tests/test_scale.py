# SPDX-License-Identifier: Apache-2.0
"""What watching sends between ranks: two numbers a parameter, whatever their size and the number of ranks."""

import pytest
import torch

pytest.importorskip("torch.testing._internal.distributed.fake_pg", reason="this torch has no simulated process group")

from benchmarks import scale


@pytest.mark.parametrize("ranks", [2, 4096])
@pytest.mark.parametrize("width", [4, 2000])
def test_two_numbers_a_parameter_at_each_step_and_two_smaller_ones_now_and_then(ranks, width):
    found = scale.simulated([(f"layers.{i}.weight", (width, width)) for i in range(7)], ranks)
    sampled = 7 if width == 4 else 1  # a weight of 8 MB fills a sample: its whole size counts, which all ranks know
    assert found.payload == pytest.approx(8 * (2 * 7 + 7 / 10 + sampled / 10))
    assert found.collectives == pytest.approx(1.2)
    assert found.held == 7 * max(-(-width // ranks), 1) * width * 2
    assert not torch.distributed.is_initialized()


def test_a_decoder_has_the_size_of_its_name():
    sizes = [scale.simulated(model.shapes(), 2).numbers for model in scale.MODELS]
    assert sizes == pytest.approx([6.7e9, 70e9, 1.01e12], rel=0.05)
