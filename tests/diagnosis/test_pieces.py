# SPDX-License-Identifier: Apache-2.0
"""A look into a network takes no second copy of what it reads: seen on a GPU, where one of the logits took 1.4 GiB."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_gradwatch.diagnosis import pieces as module
from lightning_gradwatch.diagnosis.inputs import inspect, scales
from lightning_gradwatch.diagnosis.losses import read_loss
from lightning_gradwatch.diagnosis.pieces import largest, pieces, rms
from lightning_gradwatch.diagnosis.units import flat, silent

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


@pytest.mark.parametrize("shape", [(64, 500), (500, 64), (3, 5, 4000), (1, 6, 5000), (100_000,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_read_takes_no_second_copy(shape, dtype):
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype)
    target, loss = torch.randint(4, shape[:1]), x.float().mean()
    with Largest() as seen:
        rms(x)
        flat("tanh", x)
        inspect([x])
        scales([x])
        for function in ("mse_loss", "l1_loss"):
            read_loss(function, (x, x), {}, loss)
        if len(shape) > 1:
            silent(x, 1)
            read_loss("cross_entropy", (x, target), {}, loss)
    assert 0 < seen.bytes <= 4 * MOST


@pytest.mark.parametrize("shape", [(37, 501), (501, 37), (6, 5, 400)])
def test_what_is_read_in_pieces_is_what_is_read_at_once(shape, monkeypatch):
    torch.manual_seed(0)
    x, y = torch.randn(shape) * 3 + 1, torch.randn(shape)
    x[:, 0] = 0.0

    def read() -> dict[str, float]:
        found = {**scales([x]), "rms": rms(x), "flat": flat("tanh", x.tanh()), "silent": silent(x, 1)}
        for function in ("mse_loss", "l1_loss"):
            found |= {f"{function} {k}": v for k, v in read_loss(function, (x, y), {}, y.mean()).items()}
        for logits in (x, x.softmax(1)):
            loss = read_loss("cross_entropy", (logits, y), {}, y.mean())
            found |= {f"{float(logits[0, 1].flatten()[0])} {k}": v for k, v in loss.items()}
        return {name: float(value) for name, value in found.items()}

    in_pieces = read()
    monkeypatch.setattr(module, "MOST_AT_ONCE", x.numel())
    at_once = read()
    assert in_pieces == pytest.approx(at_once, rel=1e-5, nan_ok=True)
    assert at_once["rms"] == pytest.approx(float(x.square().mean().sqrt()), rel=1e-5)
    assert at_once["mse_loss alike"] == pytest.approx(float((x - x.mean(0)).square().mean().sqrt()) / at_once["rms"])


def test_rows_that_are_alike_only_at_the_start_differ():
    """Such as the padding that a batch of sentences begins with."""
    logits = torch.zeros(400, 10)
    logits[350:] = torch.randn(50, 10)
    assert float(read_loss("cross_entropy", (logits, torch.zeros(400)), {}, logits.mean())["alike"]) > 0.5


def test_the_root_mean_square_knows_huge_zero_and_broken_values():
    x = torch.randn(37, 501)
    assert float(rms(x * 1e30)) == pytest.approx(1e30 * float(rms(x)), rel=1e-5)
    assert float(rms(torch.zeros(5))) == 0.0
    x[3, 4] = torch.nan
    assert rms(x).isnan()
    assert largest(x).isnan()


def test_pieces_are_the_whole_in_order_and_leave_an_axis_whole():
    x = torch.arange(5000.0).view(50, 100)
    for cut, axis in ((pieces(x), 0), (pieces(x, whole=0), 1), (pieces(x.view(1, 50, 100)), 1)):
        assert len(cut) > 1
        assert all(piece.numel() <= MOST for piece in cut)
        assert torch.equal(torch.cat(cut, axis).view_as(x), x)
