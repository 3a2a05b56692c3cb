# SPDX-License-Identifier: Apache-2.0
"""Measures the gradients of a fixed list of parameters, whole across ranks, in one pass.

P = parameters of one optimizer. Shapes in brackets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_gradwatch.compat.deepspeed import is_partitioned
from lightning_gradwatch.measurement import kernels
from lightning_gradwatch.measurement.sharding import (
    Sharding,
    gradient_of,
    is_plain,
    local,
    local_gradient,
    settled_gradient,
)
from lightning_gradwatch.snapshot import Bools, Floats, GradientSnapshot, ParameterInfo

_WRAPPERS = ("_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_GRADIENT, _MEMORY = attrgetter("grad"), attrgetter("layout")
_LEAST = 1e-18  # squares of smaller norms are subnormal in single precision, and lose digits


@dataclass(slots=True)
class Reading:
    """One step's gradients as numbers that are still on the device.

    Attributes:
        gradients: What there is on this rank, local parts, in the order of `held`; sharing memory unless sparse.
        held: Index of the parameter of each gradient.
        norms: [P] float32 (float64 where sharded or in double precision), unscaled; 0 where there is no gradient.
        present: [P] whether there is a gradient on any rank; a tensor where that is known on the device only.
        max_abs: 0-dim, unscaled, or None if it was not asked for.
    """

    gradients: list[Tensor]
    held: list[int]
    norms: Tensor
    present: Bools | Tensor
    max_abs: Tensor | None


class Meter:
    """Measures the gradients of a fixed list of parameters.

    Attributes:
        parameters: [P] as the optimizer holds them.
        layout: Their names and whole shapes.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]], module: nn.Module | None = None) -> None:
        pairs = list(named)
        self.parameters = [parameter for _, parameter in pairs]
        self.sharding = Sharding(self.parameters, module)
        self.layout = ParameterInfo(tuple(clean_name(name) for name, _ in pairs), tuple(self.sharding.shapes))
        self._partitioned = any(is_partitioned(parameter) for parameter in self.parameters)
        self._plain = all(map(is_plain, self.parameters))
        self._everywhere = np.ones(len(pairs), dtype=bool)
        self._all = list(range(len(pairs)))
        self._device = self.parameters[0].device if self.parameters else torch.device("cpu")

    def read(self, *, scale: float | Tensor | None = None, max_abs: bool = False) -> Reading:
        """Reads ``p.grad`` of every parameter; issues work on the device but does not wait for it."""
        gradients, held = self._gradients()
        norms, present = self._whole(self._norms(gradients, held), held)
        largest = self._largest(gradients, norms) if max_abs else None
        if scale is not None:
            norms, largest = norms / scale, None if largest is None else largest / scale
        return Reading(gradients, held, norms, present, largest)

    def _gradients(self) -> tuple[list[Tensor], list[int]]:
        """This rank's parts, and the indices of the parameters that have one."""
        read: Callable[[Tensor], Any] = gradient_of if self._partitioned else _GRADIENT
        found = list(map(read, self.parameters))
        if set(map(type, found)) == {Tensor} and set(map(_MEMORY, found)) == {torch.strided}:
            return found, self._all  # most often so, and seen without a loop in Python
        held = [i for i, gradient in enumerate(found) if gradient is not None]
        return [local_gradient(found[i], self.parameters[i]) for i in held], held

    def confirm(
        self, snapshot: GradientSnapshot, reading: Reading, scale: float | Tensor | None = None
    ) -> GradientSnapshot:
        """`snapshot` with the non-finite and the tiny norms measured again in double precision.

        In single precision the squares of 1e30 overflow and those of 1e-30 vanish, and neither is a fault.
        All ranks see the same norms, so all come here together.
        """
        if snapshot.least > _LEAST and snapshot.total < np.inf:
            return snapshot
        norms = snapshot.norms.copy()
        sound = (norms > _LEAST) & (norms < np.inf)
        suspects: list[int] = np.flatnonzero(snapshot.present & ~sound).tolist()
        if not suspects:
            return snapshot
        again = self._remeasured(suspects, reading)
        norms[suspects] = to_host(again if scale is None else again / scale)
        return replace(snapshot, norms=norms)

    def ensure_inplace(self, reading: Reading) -> None:
        """Makes ``reading.gradients`` share the memory of ``p.grad``, before they are changed.

        Sparse gradients and partial sums are replaced by what was measured; the others share it already.
        """
        for k, i in enumerate(reading.held):
            parameter = self.parameters[i]
            if parameter.grad is not None:
                parameter.grad = settled_gradient(parameter.grad, parameter)
                reading.gradients[k] = local_gradient(parameter.grad, parameter)

    def norms_of(self, reading: Reading, scale: float | Tensor | None = None) -> Tensor:
        """[P] norms of the gradients of `reading` as they are now, after somebody changed them."""
        norms, _ = self._whole(self._norms(reading.gradients, reading.held), reading.held)
        return norms if scale is None else norms / scale

    @property
    def whole(self) -> bool:
        """Whether this rank holds all of each parameter, as an ordinary tensor."""
        return self._plain

    def weights(self, of: Iterable[int]) -> list[Tensor]:
        """This rank's parts of the weights of some parameters, sharing their memory, without history."""
        return [self.parameters[i].detach() if self._plain else local(self.parameters[i]) for i in of]

    def weight_norms(self, of: Sequence[int] | None = None) -> Tensor:
        """[P] L2 norms of the weights, or those of some parameters, on the device."""
        indices = range(len(self.parameters)) if of is None else of
        parts = self.weights(indices)
        return self.whole_norms(kernels.norms(parts) if parts else torch.zeros(0), indices)

    def whole_norms(self, norms: Tensor, indices: Sequence[int]) -> Tensor:
        """Norms of this rank's parts of some parameters, joined to norms of the whole ones."""
        if not self.sharding.active:
            return norms
        weights = self.sharding.weights(norms.device)[kernels.index_on(list(indices), norms.device)]
        return self.sharding.add(norms.double().square() * weights).sqrt()

    def _norms(self, gradients: Sequence[Tensor], held: Sequence[int]) -> Tensor:
        """[P] of this rank's parts."""
        if not gradients:
            return torch.zeros(len(self.parameters), device=self._device)
        norms = kernels.norms(gradients).to(self._device)  # ZeRO may keep gradients on the host
        if len(held) == len(self.parameters):
            return norms
        full = norms.new_zeros(len(self.parameters))
        return full.index_copy_(0, kernels.index_on(held, norms.device), norms)

    def _whole(self, norms: Tensor, held: Sequence[int]) -> tuple[Tensor, Bools | Tensor]:
        """Norms and presence over all ranks, in one collective where there is any sharding."""
        size = len(self.parameters)
        if not self.sharding.active:
            if len(held) == size:
                return norms, self._everywhere
            present = np.zeros(size, dtype=bool)
            present[held] = True
            return norms, present
        flags = torch.zeros(size, dtype=torch.float64, device=norms.device)
        flags[held] = 1.0
        squares = norms.double().square() * self.sharding.weights(norms.device)
        both = self.sharding.add(torch.cat([squares, flags]))
        return both[:size].sqrt(), both[size:] > 0

    def _largest(self, gradients: Sequence[Tensor], norms: Tensor) -> Tensor:
        largest = kernels.max_abs(gradients).to(self._device)
        if self.sharding.active:
            # A maximum over ranks loses NaN on some back ends; the norms have it already.
            largest = self.sharding.largest(largest.nan_to_num(nan=0.0, posinf=torch.inf))
            largest = torch.where(norms.isnan().any(), torch.nan, largest)
        return largest

    def _remeasured(self, suspects: Sequence[int], reading: Reading) -> Tensor:
        where = dict(zip(reading.held, reading.gradients, strict=True))
        parts = [where.get(i, torch.zeros(0, device=self._device)) for i in suspects]
        return self.whole_norms(kernels.norms(parts, torch.float64), suspects)


def to_host(values: Tensor | Floats | Bools) -> Floats:
    """The numbers, flat, in double precision on the host; waits for the device."""
    if not isinstance(values, Tensor):
        return values.astype(np.float64)
    host = values.detach().cpu()
    known = host.float() if host.dtype is torch.bfloat16 else host  # numpy has no such type
    return known.numpy().astype(np.float64).reshape(-1)


def clean_name(name: str) -> str:
    """The user's name of a parameter, without what compilation, FSDP1 and activation checkpointing put in between."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name.removeprefix("module.")
