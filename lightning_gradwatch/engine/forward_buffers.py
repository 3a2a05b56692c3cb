# SPDX-License-Identifier: Apache-2.0
"""Puts back the buffers that a forward pass has changed, where its optimizer step is skipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SETTLING = 3
"""Forward passes after which it is known which buffers they change."""


class ForwardBuffers:
    """Copies of the buffers that forward passes change, from before the batches of one optimizer step.

    Those of BatchNorm and its kin are copied from the start; others, such as the vectors of a spectral norm, once they
    were seen to change. They are small beside the weights, and nothing is copied where there are none.
    """

    def __init__(self) -> None:
        self._moving: list[Tensor] = []
        self._others: list[tuple[Tensor, int]] = []
        self._copies: list[Tensor] = []
        self._takes = 0
        self._due = True

    def end_step(self) -> None:
        """An optimizer step came: the next batch begins another one."""
        self._due = True

    @torch.no_grad()
    def begin_batch(self, module: nn.Module) -> None:
        """Takes the copies, before the first batch of a step; without waiting for a device."""
        if not self._due:
            return
        self._due = False
        if self._takes <= SETTLING:
            self._find(module)
        self._takes += 1
        if len(self._copies) != len(self._moving):
            self._copies = [torch.empty_like(buffer) for buffer in self._moving]
        if self._moving:
            torch._foreach_copy_(self._copies, self._moving)

    @torch.no_grad()
    def restore(self, bad: Tensor | None = None, *, only_broken: bool = False) -> None:
        """Puts the copies back.

        Args:
            bad: 0-dim, 1.0 where the step is skipped, which the host does not know; None if it is.
            only_broken: Whether to put back only what is not finite by now.
        """
        for buffer, copy in zip(self._moving, self._copies, strict=False):
            if bad is None and not only_broken:
                buffer.copy_(copy)
                continue
            back = torch.ones_like(buffer, dtype=torch.bool) if bad is None else bad.to(buffer.device) > 0
            if only_broken:
                back = back & ~buffer.isfinite().all()
            buffer.copy_(torch.where(back, copy, buffer))

    def _find(self, module: nn.Module) -> None:
        if not self._takes:
            tracked = {id(b) for m in module.modules() if getattr(m, "track_running_stats", False) for b in m.buffers()}
            buffers = [buffer for buffer in module.buffers() if buffer.numel() and not buffer.is_inference()]
            self._moving = [buffer for buffer in buffers if id(buffer) in tracked]
            self._others = [(buffer, buffer._version) for buffer in buffers if id(buffer) not in tracked]
            return
        self._moving += [buffer for buffer, version in self._others if buffer._version != version]
        self._others = [(buffer, version) for buffer, version in self._others if buffer._version == version]
