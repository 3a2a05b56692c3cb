# SPDX-License-Identifier: Apache-2.0
"""The only code that changes gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_gradwatch.compat import lightning
from lightning_gradwatch.engine.step import Members, StepRecord
from lightning_gradwatch.laws import Law
from lightning_gradwatch.lr.known import sgd_reach
from lightning_gradwatch.measurement import kernels
from lightning_gradwatch.measurement.meter import to_host
from lightning_gradwatch.measurement.sharding import local
from lightning_gradwatch.snapshot import Floats, joint

Norms = Tensor | Floats
Factor = Tensor | float

CLIP_EPS = 1e-6
"""What DeepSpeed adds to the norm before it divides by it."""


def apply_actions(record: StepRecord) -> None:
    """Carries the wishes out: an end beats a skip, a skip beats a clip.

    Per parameter the smallest factor wins, never the product: two clippers at 1.0 must leave a norm of 1.0. Laws that
    act entry by entry come first, on the raw gradients; the other laws then see the norms that those left, and the
    bound on the updates what is left after all.
    """
    host = record.snapshot is not None and not record.lagged
    norms: Norms = record.snapshot.norms if host and record.snapshot is not None else record.reading.norms
    if record.ending is not None:
        return
    if record.lagged and isinstance(norms, Tensor):
        if record.guard:
            record.bad = 1.0 - torch.isfinite(torch.linalg.vector_norm(norms)).float()
        record.guard &= lightning.scaler_of(record.trainer) is None  # a scaler skips by itself
        if record.guard and record.bad is not None:
            record.watch.skip_on_device(record.bad)
    elif record.skip:
        record.watch.skip(record)
        record.skipped = True
        return
    if record.watch.searches:  # a search must get the gradients that it saw
        record.total_clipped = record.snapshot.total if host and record.snapshot is not None else _norm(norms, None)
        return
    if record.elementwise:
        norms = _apply_elementwise(record, host=host)
    known = record.snapshot if host and not record.elementwise else None
    total = _norm(norms, None) if known is None else known.total
    wishes = [(_factor(law, total if m is None else _norm(norms, m)), m) for law, m in record.clips]
    factors = [(factor, members) for factor, members in wishes if factor is not None]
    change = factors or record.bounds
    record.total_clipped = _norm(_scale(record, norms, factors), None) if change else total


def _apply_elementwise(record: StepRecord, *, host: bool) -> Norms:
    """Applies the element-wise laws; the norms that are left [P]."""
    reading, meter = record.reading, record.watch.meter
    meter.ensure_inplace(reading)
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
    parts = _partition(factors, len(norms)) if factors else []
    applied = torch.ones_like(norms) if isinstance(norms, Tensor) else np.ones_like(norms)
    for members, factor in parts:
        applied[... if members is None else _index(members, norms)] = factor
        record.factor = _least([record.factor, factor])
    bounded = _bounded(record, norms, applied)
    if bounded is not None:
        with_bound = bounded / applied
        record.bound_factor = with_bound.min() if isinstance(with_bound, Tensor) else float(with_bound.min())
        applied, parts = bounded, _alike(bounded)
        record.factor = applied.min() if isinstance(applied, Tensor) else float(applied.min())
    if bounded is None and not parts:
        return norms
    reading = record.reading
    record.watch.meter.ensure_inplace(reading)
    if isinstance(bounded, Tensor):
        kernels.scale_each_(reading.gradients, [bounded[i] for i in reading.held])
    for members, factor in parts:
        chosen = set(reading.held if members is None else members)
        kernels.scale_([g for g, i in zip(reading.gradients, reading.held, strict=True) if i in chosen], factor)
    return norms * applied


def _bounded(record: StepRecord, norms: Norms, applied: Norms) -> Norms | None:
    """[P] all factors, those of the bounds on the updates included; None where these change nothing."""
    if not record.bounds:
        return None
    measured = record.numbers.get("weights") if isinstance(norms, Tensor) else None
    weights: Norms | None = measured if isinstance(measured, Tensor) else None
    if weights is None and record.snapshot is not None and record.snapshot.layout is record.watch.meter.layout:
        weights = record.snapshot.weight_norms
    reaches = [record.lr_scale * sgd_reach(group) for group in record.watch.optimizer.param_groups]
    found = [bound.factors(norms * applied, weights, reaches) for bound in record.bounds]
    on_device = [factors for factors in found if isinstance(factors, Tensor)]
    if isinstance(applied, Tensor):
        return (applied * torch.stack(on_device).amin(0)).to(applied.dtype) if on_device else None
    on_host = [factors for factors in found if factors is not None and not isinstance(factors, Tensor)]
    return applied * np.minimum.reduce(on_host) if on_host else None


def _alike(applied: Norms) -> list[tuple[list[int] | None, Factor]]:
    """Parameters by their factor, without those that are left as they are; none for what the host does not know."""
    if isinstance(applied, Tensor):
        return []
    return [(np.flatnonzero(applied == x).tolist(), float(x)) for x in np.unique(applied) if x < 1.0]


def _limit_engine(record: StepRecord, norms: Norms, factors: list[tuple[Factor, Members]]) -> Norms:
    """Has DeepSpeed clip to what the factors, which are all of all parameters there, leave; the norms left [P]."""
    record.factor = _least([factor for factor, _ in factors])
    record.watch.limit_engine(float(record.factor * (_norm(norms, None) + CLIP_EPS)))
    return norms * record.factor


def _partition(factors: list[tuple[Factor, Members]], size: int) -> list[tuple[list[int] | None, Factor]]:
    """Parameters that the same wishes speak of (None for all), each with the smallest factor among those."""
    if all(members is None for _, members in factors):
        return [(None, _least([factor for factor, _ in factors]))]
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
    part = norms if members is None else norms[_index(members, norms)]
    return torch.linalg.vector_norm(part) if isinstance(part, Tensor) else joint(part)


def _index(members: Sequence[int] | NDArray[np.intp], norms: Norms) -> Any:
    """Indices as `norms` takes them."""
    return kernels.index_on(list(members), norms.device) if isinstance(norms, Tensor) else members


def _least(factors: list[Factor]) -> Factor:
    tensors = [factor for factor in factors if isinstance(factor, Tensor)]
    if not tensors:
        return min(factor for factor in factors if not isinstance(factor, Tensor))
    return torch.stack([f if isinstance(f, Tensor) else tensors[0].new_full((), f) for f in factors]).min()
