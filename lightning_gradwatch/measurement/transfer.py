# SPDX-License-Identifier: Apache-2.0
"""One step's numbers on their way to the host, in one copy that nobody waits for before it is needed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightning_gradwatch.snapshot import Floats


class Transfer:
    """Named tensors that become named arrays. On CUDA: one non-blocking copy to pinned memory, behind an event.

    Args:
        parts: Real tensors of any shape, all on one device.
    """

    def __init__(self, parts: dict[str, Tensor]) -> None:
        self._sizes = {name: part.numel() for name, part in parts.items()}
        flat = torch.cat([part.detach().reshape(-1) for part in parts.values()])
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
        if self._event is not None:
            self._event.synchronize()
        ends = np.cumsum(list(self._sizes.values()))[:-1]
        return dict(zip(self._sizes, np.split(self._host.double().numpy(), ends), strict=True))
