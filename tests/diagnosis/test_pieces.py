# SPDX-License-Identifier: Apache-2.0
"""A look into a network takes no second copy of what it reads: seen on a GPU, where one of the logits took 1.4 GiB."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_gradwatch.diagnosis import pieces as module
from lightning_gradwatch.diagnosis.inputs import inspect, scales
from lightning_gradwatch.diagnosis.losses import read_loss
from lightning_gradwatch.diagnosis.pieces import largest, leading, pieces, rms
from lightning_gradwatch.diagnosis.units import flat

MOST = 1024


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that a call made, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        made = out if isinstance(out, (tuple, list)) else [out]
        for t in made:
            if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, t.untyped_storage().nbytes())
        return out


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(module, "MOST_AT_ONCE", MOST)


@pytest.mark.parametrize("shape", [(64, 500), (500, 64), (3, 5, 4000), (100_000,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_read_takes_no_second_copy(shape, dtype):
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype)
    target = torch.randint(4, shape[:1])
    loss = x.float().mean()
    with Largest() as seen:
        rms(x)
        flat("tanh", x)
        inspect([x])
        read_loss("mse_loss", (x, x), {}, loss)
        scales([x])
        if len(shape) == 2:
            read_loss("cross_entropy", (x, target), {}, loss)
    rows = 4 * x[0].numel()  # as many rows as are compared at least
    assert seen.bytes <= 4 * max(MOST, rows)


def test_the_root_mean_square_is_that_of_the_whole():
    torch.manual_seed(0)
    x = torch.randn(37, 501) * 3
    assert float(rms(x)) == pytest.approx(float(x.square().mean().sqrt()), rel=1e-5)
    assert float(rms(x * 1e30)) == pytest.approx(3e30, rel=0.05)
    assert float(rms(torch.zeros(5))) == 0.0
    x[3, 4] = torch.nan
    assert rms(x).isnan()
    assert largest(x).isnan()


def test_pieces_are_the_whole_in_order():
    x = torch.arange(5000.0).view(50, 100)
    assert torch.equal(torch.cat(list(pieces(x)), 1), x)
    assert all(p.numel() <= MOST for p in pieces(x))
    assert len(leading(x, 4)) == MOST // 100


def test_a_large_loss_is_read_by_its_first_rows():
    torch.manual_seed(0)
    logits, target = torch.randn(400, 10), torch.randint(10, (400,))
    loss = nn.functional.cross_entropy(logits, target)
    found = read_loss("cross_entropy", (logits, target), {}, loss)
    assert float(found["value"]) == pytest.approx(float(loss))
    assert float(found["alike"]) == pytest.approx(1.0, abs=0.05)
    assert not bool(found["softmaxed"])
    assert bool(read_loss("cross_entropy", (logits.softmax(1), target), {}, loss)["softmaxed"])
    y = torch.randn(400, 1)
    assert float(read_loss("mse_loss", (y, y[:, 0]), {}, loss)["outer"]) == 1.0
