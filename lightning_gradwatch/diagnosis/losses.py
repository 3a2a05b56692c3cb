# SPDX-License-Identifier: Apache-2.0
"""What a loss function was called with: targets, answers, and how its value compares with that of a blind guess.

A blind guess knows only what all targets have in common: each class equally often, or the mean of all targets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import zip_longest
from math import log, prod

import torch
from torch import Tensor

from lightning_gradwatch.diagnosis.pieces import pieces, rms, total, with_rows

LOSSES = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy_with_logits",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
)
"""Those that are read, by the names of the calls."""

_ROUNDING = 1e-3
_SQUARED = 3.0  # what is three times as far off is nine times as bad
_FEW = 4  # answers
_OF_CLASSES = ("cross_entropy", "nll_loss")


@torch.no_grad()
def read_loss(function: str, args: tuple[object, ...], kwargs: Mapping[str, object], out: object) -> dict[str, Tensor]:
    """Single numbers by name, on the device; empty where the call is not understood.

    ``value``: the mean loss. ``excess``: how many times worse than a blind guess; of squared errors the root is meant
    by three times, so that it is their square over 3. ``target`` and ``answer``: root mean squares, of errors only.
    ``alike``: how far the answers differ over the batch, as a share of their size. ``softmaxed``: whether logits are
    probabilities already. ``outer``: whether each answer is held against each target, since the shapes differ.
    """
    answer = args[0] if args else kwargs.get("input")
    target = args[1] if len(args) > 1 else kwargs.get("target")
    if not (isinstance(answer, Tensor) and isinstance(target, Tensor) and isinstance(out, Tensor) and out.numel()):
        return {}
    answer, target, value = answer.detach(), target.detach(), out.detach().float()
    value = value.sum() / max(target.numel(), 1) if kwargs.get("reduction") == "sum" else value.mean()
    found = {"value": value, "alike": _alike(answer)}
    weighted = [*args[2:], kwargs.get("weight"), kwargs.get("pos_weight")]
    if any(isinstance(one, Tensor) for one in weighted):
        return found  # what a blind guess would get is another number then
    if function in _OF_CLASSES:
        axis = 1 if answer.dim() > 1 else 0
        if function == "cross_entropy":
            off = [(piece.float().sum(axis) - 1).abs().amax() for piece in pieces(answer, whole=axis)]
            found["softmaxed"] = (torch.stack(off).amax() < _ROUNDING) & (answer.amin() >= 0)
        return {**found, "excess": value / log(max(answer.shape[axis], 2))}
    if function == "binary_cross_entropy_with_logits":
        return {**found, "excess": value / log(2)}
    sizes = zip_longest(reversed(answer.shape), reversed(target.shape), fillvalue=1)
    outer = prod(max(size) for size in sizes) > max(answer.numel(), target.numel())
    found["outer"] = value.new_full((), float(outer))
    if function == "mse_loss":
        excess = value / _spread(target, torch.square).clamp(min=1e-30) / _SQUARED
    else:
        excess = value / _spread(target, torch.abs).clamp(min=1e-30)
    lowest, highest = torch.aminmax(target)
    known = torch.where(highest > lowest, excess, torch.nan)  # all targets the same: nobody needs to guess
    return {**found, "excess": known, "target": rms(target), "answer": rms(answer)}


def _spread(target: Tensor, size: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean `size` of what targets differ from their mean by."""
    cut = pieces(target)
    mean = total([piece.float().sum() for piece in cut]) / target.numel()
    return total([size(piece.float() - mean).sum() for piece in cut]) / target.numel()


def _alike(answer: Tensor) -> Tensor:
    """NaN where there is nothing to compare."""
    if answer.dim() == 0 or answer.shape[0] < _FEW:
        return torch.full((), torch.nan, device=answer.device)
    size = rms(answer)
    by = size.clamp(min=1e-30)
    mean = answer.mean(0, keepdim=True, dtype=torch.float32)
    squares = [((piece.float() - row) / by).square().sum() for piece, row in with_rows(answer, mean)]
    return torch.where(size > 0, (total(squares) / answer.numel()).sqrt(), torch.nan)


def scales_of(numbers: Mapping[str, Tensor], fed: Collection[str]) -> dict[str, Tensor]:
    """Of what was read of a pass: the largest of each number of its losses, and what went into the first layer.

    Args:
        numbers: As `ForwardProbe.take` gives them.
        fed: The layers that multiply what goes into them.
    """
    found = {}
    for what in ("value", "excess", "target", "answer", "alike", "softmaxed", "outer", "apart"):
        values = [number.float() for name, number in numbers.items() if name.startswith(f"{what} ")]
        if values:
            found[what] = torch.stack(values).amax()
    first = next((name for name in numbers if name.startswith("in ") and name[3:] in fed), None)
    return found if first is None else {**found, "input": numbers[first]}
