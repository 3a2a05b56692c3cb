# SPDX-License-Identifier: Apache-2.0
"""One step's numbers on their way to the host, in one copy that nobody waits for before it is needed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lightning_gradwatch.measurement.meter import to_host
from lightning_gradwatch.snapshot import Bools, Floats


def send(numbers: Mapping[str, Tensor | Floats | Bools], device: torch.device) -> tuple[Transfer, dict[str, Floats]]:
    """Numbers on their way from `device` to the host, in one copy, and those that are elsewhere; each flat."""
    far = {name: part for name, part in numbers.items() if isinstance(part, Tensor) and part.device == device}
    near = {name: np.atleast_1d(to_host(part)) for name, part in numbers.items() if name not in far}
    return Transfer(far), near


class Transfer:
    """Named tensors that become named arrays. On CUDA: one non-blocking copy to pinned memory, behind an event.

    Args:
        parts: Real tensors of any shape, all on one device.
    """

    def __init__(self, parts: dict[str, Tensor]) -> None:
        self._sizes = {name: part.numel() for name, part in parts.items()}
        flat = torch.cat([part.detach().reshape(-1) for part in parts.values()]) if parts else torch.empty(0)
        self._event: torch.cuda.Event | None = None
        if not flat.is_cuda:
            self._host = flat.cpu()  # also from devices without events, which wait here
            return
        self._host = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
        self._host.copy_(flat, non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's, not typed
        self._event.record()

    def arrive(self) -> dict[str, Floats]:
        """The arrays, each flat and in double precision. Waits until they are there."""
        if not self._sizes:
            return {}
        if self._event is not None:
            self._event.synchronize()
        ends = np.cumsum(list(self._sizes.values()))[:-1]
        return dict(zip(self._sizes, np.split(self._host.double().numpy(), ends), strict=True))
