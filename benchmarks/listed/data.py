# SPDX-License-Identifier: Apache-2.0
"""Batches: scikit-learn's bundled sets, the standard library's text, generated sequences.

B = batch, T = time steps, F = features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pydoc_data import topics

import torch
from sklearn import datasets
from torch import Tensor
from torch.nn.functional import one_hot, pad

Batch = tuple[Tensor, Tensor]
Change = Callable[[Tensor], Tensor]


@cache
def table(name: str) -> Batch:
    """A bundled data set as it comes: features [N, F]; targets [N], whole numbers are classes."""
    bunch = getattr(datasets, f"load_{name}")()
    return torch.tensor(bunch.data, dtype=torch.float32), torch.tensor(bunch.target)


@cache
def standard(name: str) -> Batch:
    """A bundled data set as it should be fed: standardised features; a number as target [N, 1] is standardised, too."""
    x, y = table(name)
    # Pixels share one scale; some are always zero and have no deviation of their own.
    dim = None if name == "digits" else 0
    x = (x - x.mean(dim)) / x.std(dim)
    return (x, y) if name != "diabetes" else (x, ((y - y.mean()) / y.std()).float()[:, None])


def batches(data: Batch, steps: int = 200, size: int = 64) -> list[Batch]:
    """`steps` random batches, drawn with replacement."""
    x, y = data
    return [(x[i], y[i]) for i in torch.randint(len(x), (steps, size))]


def digits(steps: int = 200, size: int = 64) -> list[Batch]:
    """Handwritten digits [B, 64] and their classes [B]."""
    return batches(standard("digits"), steps, size)


def images(steps: int = 200, size: int = 64) -> list[Batch]:
    """Handwritten digits [B, 1, 8, 8] and their classes [B]."""
    return [(x.view(-1, 1, 8, 8), y) for x, y in digits(steps, size)]


def diabetes(steps: int = 200, size: int = 64) -> list[Batch]:
    """A regression: ten features [B, 10] and one number [B, 1]."""
    return batches(standard("diabetes"), steps, size)


def padded_digits(length: int, steps: int = 150, size: int = 32) -> list[Batch]:
    """The rows of a digit in its first 8 time steps [B, T, 8], then silence: the class [B] must be carried over."""
    return [(pad(x.view(-1, 8, 8), (0, 0, 0, length - 8)), y) for x, y in digits(steps, size)]


def recall(length: int, classes: int = 4, steps: int = 150, size: int = 32) -> list[Batch]:
    """A symbol at the first time step, then noise [B, T, classes]: the symbol [B] is asked for at the end."""
    out = []
    for _ in range(steps):
        y = torch.randint(classes, (size,))
        x = torch.randn(size, length, classes) * 0.1
        x[:, 0] += one_hot(y, classes)
        out.append((x, y))
    return out


def adding(length: int, steps: int = 200, size: int = 32) -> list[Batch]:
    """The sum [B, 1] of the two marked numbers in a sequence [B, T, 2] (Hochreiter and Schmidhuber, 1997)."""
    out = []
    for _ in range(steps):
        x = torch.stack([torch.rand(size, length), torch.zeros(size, length)], -1)
        marked = torch.rand(size, length).argsort(1)[:, :2]
        x[..., 1].scatter_(1, marked, 1.0)
        out.append((x, x[..., 0].gather(1, marked).sum(1, keepdim=True)))
    return out


@cache
def _characters() -> Tensor:
    text = "\n".join(topics.topics[key] for key in sorted(topics.topics))[:200_000]
    return torch.tensor(list(text.encode("ascii", "replace")))


def text(steps: int = 150, size: int = 16, length: int = 32) -> list[Batch]:
    """Python's own manual as characters [B, T] and the characters that follow them [B, T]."""
    starts = torch.randint(len(_characters()) - length - 1, (steps, size, 1))
    return [(w[:, :-1], w[:, 1:]) for w in _characters()[starts + torch.arange(length + 1)]]


def tamper(data: list[Batch], at: int | slice, x: Change | None = None, y: Change | None = None) -> list[Batch]:
    """The same batches, but inputs or targets are changed at one place or from one place on."""
    where = range(len(data))[at if isinstance(at, slice) else slice(at, at + 1)]
    return [((x or _same)(b[0]), (y or _same)(b[1])) if i in where else b for i, b in enumerate(data)]


def _same(value: Tensor) -> Tensor:
    return value
