# SPDX-License-Identifier: Apache-2.0
"""What a batch holds: NaN, inf, and values far from order 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from lightning_gradwatch.diagnosis.pieces import largest, pieces, rms, with_rows
from lightning_gradwatch.measurement.sharding import plain
from lightning_gradwatch.rules.text import number

_MOST_TENSORS = 16
_DEEPEST = 8
_OUTLIER = 10.0  # times the first batch


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor of a batch.

    Attributes:
        path: How to reach it from `batch`, such as ``batch["x"]`` or ``batch[0]``.
        nan: How many NaN it holds.
        inf: How many infinities.
        rms: Root mean square; not finite where an entry is not.
        largest: Largest absolute entry, likewise.
    """

    path: str
    nan: int
    inf: int
    rms: float
    largest: float


@torch.no_grad()
def inspect(batch: object) -> list[Input]:
    """The floating-point tensors of a batch, at most 16 of them; on CUDA this waits for the device."""
    found = [(path, tensor) for path, tensor in _tensors(batch, "batch", _DEEPEST) if tensor.numel()][:_MOST_TENSORS]
    return [Input(path, *_numbers(tensor)) for path, tensor in found]


@torch.no_grad()
def scales(batch: object) -> dict[str, Tensor]:
    """Numbers of the same tensors, on the device, without waiting for it.

    ``rms <path>``, ``largest <path>``, and ``apart <path>``: how far the rows differ, as a share of the largest entry.
    """
    found: dict[str, Tensor] = {}
    for path, tensor in [(p, t) for p, t in _tensors(batch, "batch", _DEEPEST) if t.numel()][:_MOST_TENSORS]:
        values = plain(tensor.detach())
        found[f"largest {path}"] = most = largest(values)
        found[f"rms {path}"] = rms(values)
        if values.dim() and len(values) > 1:
            apart = [(piece.float() - row.float()).abs().amax() for piece, row in with_rows(values, values[:1])]
            found[f"apart {path}"] = torch.stack(apart).amax() / most.clamp(min=1e-30)
    return found


def inputs_of(numbers: Mapping[str, float]) -> list[Input]:
    """The tensors whose scales are among the numbers."""
    return [
        Input(name[4:], 0, 0, value, numbers.get(f"largest {name[4:]}", value))
        for name, value in numbers.items()
        if name.startswith("rms ")
    ]


def outlier(now: Sequence[Input], first: Sequence[Input]) -> str | None:
    """What of a batch is ten times as large as in the first one; None if nothing is."""
    usual = {one.path: one.rms for one in first if one.rms > 0}
    for one in now:
        factor = one.rms / usual[one.path] if one.path in usual else 0.0
        if _OUTLIER < factor < inf:
            return f"{one.path} has {number(factor)} times the rms of the first batch"
    return None


def nonfinite(inputs: Sequence[Input]) -> str:
    """``batch["x"] holds 3 NaN and 1 inf``, for each tensor with any; empty if there is none."""
    parts = []
    for one in inputs:
        kinds = [f"{count} {what}" for what, count in (("NaN", one.nan), ("inf", one.inf)) if count]
        if kinds:
            parts.append(f"{one.path} holds {' and '.join(kinds)}")
    return ", ".join(parts)


def _numbers(tensor: Tensor) -> tuple[int, int, float, float]:
    values = plain(tensor)
    counts = [torch.stack([piece.isnan().sum(), piece.isinf().sum()]) for piece in pieces(values)]
    nan, inf = torch.stack(counts).sum(0).tolist()
    return int(nan), int(inf), float(rms(values)), float(largest(values))


def _tensors(value: object, path: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    """Tensors within lists, tuples, mappings and objects with attributes (dataclasses, graphs), with their paths."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.layout is torch.strided:
            yield path, value
        return
    if depth == 0 or isinstance(value, (str, bytes, torch.nn.Module)):
        return
    for step, part in _parts(value):
        yield from _tensors(part, path + step, depth - 1)


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield f'["{key}"]' if isinstance(key, str) else f"[{key!r}]", part
    elif isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        for i, part in enumerate(value):
            yield f"[{i}]", part
    else:
        for name in _names(value):
            yield f".{name}", getattr(value, name, None)


def _names(value: object) -> list[str]:
    """The attributes of named tuples, dataclasses, graphs, and classes with ``__slots__``."""
    if hasattr(value, "_fields"):
        return list(value._fields)
    slots = [slot for cls in type(value).__mro__ for slot in _listed(vars(cls).get("__slots__", ()))]
    return [*slots, *(vars(value) if hasattr(value, "__dict__") else ())]


def _listed(slots: str | Iterable[str]) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)
