# SPDX-License-Identifier: Apache-2.0
"""The only code that changes gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightning_gradwatch import kernels
from lightning_gradwatch.callbacks import private
from lightning_gradwatch.callbacks.step import Members, StepRecord
from lightning_gradwatch.laws import Law
from lightning_gradwatch.meter import to_host
from lightning_gradwatch.sharding import local
from lightning_gradwatch.snapshot import Floats, joint

Norms = Tensor | Floats
Factor = Tensor | float

CLIP_EPS = 1e-6
"""What DeepSpeed adds to the norm before it divides by it."""


def settle(record: StepRecord) -> None:
    """Carries the wishes out: an end beats a skip, a skip beats a clip.

    Per parameter the smallest factor wins, never the product: two clippers at 1.0 must leave a norm of 1.0. Laws that
    act entry by entry come first, on the raw gradients; the other laws then see the norms that those left.
    """
    host = record.snapshot is not None and not record.lagged
    norms: Norms = record.snapshot.norms if host and record.snapshot is not None else record.reading.norms
    if record.ending is not None:
        return
    if record.lagged:
        if record.guard and private.scaler_of(record.trainer) is None:
            finite = torch.isfinite(torch.linalg.vector_norm(norms))
            record.watch.skip_on_device(1.0 - finite.float())
    elif record.skip:
        record.watch.skip(record)
        record.skipped = True
        return
    if record.elementwise:
        norms = _apply_elementwise(record, host=host)
    wishes = [(_factor(law, _norm(norms, members)), members) for law, members in record.clips]
    factors = [(factor, members) for factor, members in wishes if factor is not None]
    record.total_clipped = _norm(_scale(record, norms, factors) if factors else norms, None)


def _apply_elementwise(record: StepRecord, *, host: bool) -> Norms:
    """Applies the element-wise laws; the norms that are left [P]."""
    reading, meter = record.reading, record.watch.meter
    meter.share(reading)
    for law, members in record.elementwise:
        spoken = set(reading.held if members is None else members)
        chosen = [(k, i) for k, i in enumerate(reading.held) if i in spoken]
        law.apply_(
            [local(meter.parameters[i]) for _, i in chosen],
            [_with_rows(meter.parameters[i], reading.gradients[k]) for k, i in chosen],
            [meter.layout.names[i] for _, i in chosen],
            1.0 if record.scale is None else record.scale,
        )
    norms = meter.norms_of(reading, record.scale)
    return to_host(norms) if host else norms


def _with_rows(parameter: Tensor, values: Tensor) -> Tensor:
    """A gradient as a law wants it: a sparse one with its indices, which say whose rows the values are."""
    gradient = parameter.grad
    return gradient if gradient is not None and gradient.is_sparse else values


def _scale(record: StepRecord, norms: Norms, factors: list[tuple[Factor, Members]]) -> Norms:
    """Multiplies the gradients; the norms that are left [P]."""
    if record.watch.is_engine:
        return _limit_engine(record, norms, factors)
    reading = record.reading
    record.watch.meter.share(reading)
    applied = torch.ones_like(norms) if isinstance(norms, Tensor) else np.ones_like(norms)
    for members, factor in _partition(factors, len(norms)):
        chosen = set(members)
        kernels.scale_([g for g, i in zip(reading.gradients, reading.held, strict=True) if i in chosen], factor)
        applied[members] = factor
        record.factor = _least([record.factor, factor])
    return norms * applied


def _limit_engine(record: StepRecord, norms: Norms, factors: list[tuple[Factor, Members]]) -> Norms:
    """Has DeepSpeed clip to what the factors, which are all of all parameters there, leave; the norms left [P]."""
    record.factor = _least([factor for factor, _ in factors])
    record.watch.limit_engine(float(record.factor * (_norm(norms, None) + CLIP_EPS)))
    return norms * record.factor


def _partition(factors: list[tuple[Factor, Members]], size: int) -> list[tuple[list[int], Factor]]:
    """Parameters that the same wishes speak of, each with the smallest factor among those."""
    if all(members is None for _, members in factors):
        return [(list(range(size)), _least([factor for factor, _ in factors]))]
    spoken = [set(range(size) if members is None else members) for _, members in factors]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in range(size):
        groups.setdefault(tuple(k for k, members in enumerate(spoken) if i in members), []).append(i)
    return [(members, _least([factors[k][0] for k in key])) for key, members in groups.items() if key]


def _factor(law: Law, norm: Factor) -> Factor | None:
    """The law's factor for `norm`; None where the host knows that nothing is to be multiplied."""
    if isinstance(norm, Tensor):
        return law.factor(norm)
    return law.factor(torch.tensor(norm, dtype=torch.float64)).item() if norm > law.limit() else None


def _norm(norms: Norms, members: Members) -> Factor:
    """The joint norm of some parameters."""
    part = norms if members is None else norms[members]
    return torch.linalg.vector_norm(part) if isinstance(part, Tensor) else joint(part)


def _least(factors: list[Factor]) -> Factor:
    tensors = [factor for factor in factors if isinstance(factor, Tensor)]
    if not tensors:
        return min(factor for factor in factors if not isinstance(factor, Tensor))
    return torch.stack([f if isinstance(f, Tensor) else tensors[0].new_tensor(f) for f in factors]).min()
