# SPDX-License-Identifier: Apache-2.0
"""Sharded parameters: what this rank holds, and how sums over ranks become whole.

Every rank adds its part in one all-reduce over all ranks, whatever the mix of sharded and whole parameters: what
several ranks hold alike is weighted down by their number. One small collective, on every rank, at every step, so that a
rank with an empty shard or without a gradient cannot leave the others waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_gradwatch.compat import deepspeed

try:
    from torch.distributed.tensor import DTensor, Replicate
except ImportError:  # torch before 2.5
    from torch.distributed._tensor import DTensor, Replicate  # type: ignore[attr-defined, no-redef, unused-ignore]  # not in every torch


def local(parameter: Tensor) -> Tensor:
    """This rank's part of a parameter, dense, sharing its memory, without its history."""
    if deepspeed.is_partitioned(parameter):
        return deepspeed.weight(parameter).detach()
    parameter = parameter.detach()
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def is_plain(parameter: Tensor) -> bool:
    """Whether a parameter is itself what this rank holds."""
    return not deepspeed.is_partitioned(parameter) and not isinstance(parameter, DTensor)


def gradient_of(parameter: Tensor) -> Tensor | None:
    """``p.grad``, or what ZeRO keeps in its place."""
    return deepspeed.gradient(parameter) if deepspeed.is_partitioned(parameter) else parameter.grad


def local_gradient(gradient: Tensor, parameter: Tensor) -> Tensor:
    """This rank's part of a gradient, dense; shares the memory of what `settled_gradient` returns."""
    gradient = settled_gradient(gradient, parameter)
    if isinstance(gradient, DTensor):
        return gradient.to_local()
    return gradient if gradient.layout is torch.strided else gradient.values()


def settled_gradient(gradient: Tensor, parameter: Tensor) -> Tensor:
    """`gradient` itself, but for two kinds whose parts must be added up before they can be squared.

    Those are the duplicates of an uncoalesced sparse gradient and the partial sums of tensor parallelism.
    """
    if isinstance(gradient, DTensor):
        if not any(placement.is_partial() for placement in gradient.placements):
            return gradient
        like = parameter.placements if isinstance(parameter, DTensor) else [Replicate()] * gradient.device_mesh.ndim
        return gradient.redistribute(placements=like)
    return gradient.coalesce() if gradient.layout is torch.sparse_coo else gradient


def is_whole(module: nn.Module) -> bool:
    """Whether a module, as the strategy wrapped it, has all its parameters on this rank, as themselves."""
    wrapped = any(hasattr(unit, "_handle") for unit in module.modules())
    return not wrapped and not any(isinstance(p, DTensor) or deepspeed.is_partitioned(p) for p in module.parameters())


class Sharding:
    """How the parameters of one optimizer lie on the ranks.

    Args:
        parameters: [P] as the optimizer holds them.
        module: The module as the strategy wrapped it; tells which parameters FSDP1 cut.

    Attributes:
        active: Whether any parameter is sharded. If not, there is never a collective.
        shapes: [P] whole shapes.
        rows_cut: Indices of the matrices that do not lie in whole rows, or not as matrices, on this rank.
    """

    def __init__(self, parameters: Sequence[Tensor], module: nn.Module | None = None) -> None:
        units = {} if module is None or not dist.is_available() or not dist.is_initialized() else _fsdp1(module)
        parts = [_parts(parameter, units) for parameter in parameters]
        self.active = any(count is not None and count > 1 for count in parts)
        self.shapes = [units[id(p)][1] if id(p) in units else deepspeed.shape(p) for p in parameters]
        self.rows_cut = [i for i, p in enumerate(parameters) if len(self.shapes[i]) > 1 and _cut(p, self.shapes[i])]
        ranks = dist.get_world_size() if self.active else 1
        self._weights = torch.tensor([(count or 1) / ranks for count in parts], dtype=torch.float64)

    def weights(self, device: torch.device) -> Tensor:
        """[P] by how much this rank's sum of squares counts: number of different parts over number of ranks."""
        if self._weights.device != device:
            self._weights = self._weights.to(device)
        return self._weights

    @staticmethod
    def add(values: Tensor) -> Tensor:
        """`values` added up over all ranks, in place."""
        dist.all_reduce(values)
        return values

    @staticmethod
    def largest(values: Tensor) -> Tensor:
        """The largest of each entry of `values` over all ranks, in place."""
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values


_Units = dict[int, tuple[int, tuple[int, ...]]]


def _parts(parameter: Tensor, units: _Units) -> int | None:
    """In how many different parts a parameter lies on the ranks; None where the strategy leaves it whole."""
    if isinstance(parameter, DTensor):
        mesh = parameter.device_mesh
        # Not `is_shard`: torch has a kind of its own for what tensor parallelism and FSDP2 cut along one dimension.
        return prod(mesh.size(i) for i, placement in enumerate(parameter.placements) if hasattr(placement, "dim"))
    if deepspeed.is_partitioned(parameter):
        return dist.get_world_size()
    return units[id(parameter)][0] if id(parameter) in units else None


def _cut(parameter: Tensor, shape: tuple[int, ...]) -> bool:
    if isinstance(parameter, DTensor):
        return any(getattr(placement, "dim", 0) % len(shape) for placement in parameter.placements)
    return tuple(parameter.shape) != shape


def _fsdp1(module: nn.Module) -> _Units:
    """Parameter id -> number of parts and whole shape, of what FSDP1 wrapped.

    ``_handle`` and its fields are private; FSDP1 is frozen upstream. Read on torch 2.4 to 2.13.
    """
    units: _Units = {}
    for unit in module.modules():
        handle: Any = getattr(unit, "_handle", None)
        if handle is None or not hasattr(handle, "flat_param"):
            continue
        flat = handle.flat_param
        parts = dist.get_world_size(handle.process_group) if handle.uses_sharded_strategy else 1
        matrices = any(len(shape) >= 2 for shape in flat._shapes)
        numel = sum(prod(shape) for shape in flat._shapes)
        # One flat tensor for a whole unit: still a matrix to the rules about depth, if it holds one.
        units[id(flat)] = parts, ((1, numel) if matrices else (numel,))
        for parameter, shape in zip(flat._params or (), flat._shapes, strict=False):
            units[id(parameter)] = parts, tuple(shape)
    return units
