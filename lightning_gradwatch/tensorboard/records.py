# SPDX-License-Identifier: Apache-2.0
"""The compact format: one tensor summary per logged step for all layers, and one per event.

TensorBoard loads every event file but hands a plugin a sample of each tag's steps: 100, or 10 with --load_fast=false.
Blocks of steps under many tags would get round that, at the price of state in every checkpoint and of memory in
TensorBoard that grows with the run. So the writer is as simple as can be (it remembers nothing but which layer names it
wrote), and the backend asks TensorBoard's data provider only *which* runs have such records; the records themselves it
reads from the event files of exactly these runs, each byte once, and keeps where each one lies. So every logged step is
there with either data server, memory is bounded, and any part of the run can be read again exactly.

A record is `MAGIC`, the CRC-32 of what follows the two integers, the length of a JSON header, the header, and
little-endian float32 arrays [L] for the values named in the header, L = layers. The header of a writer's first record,
and of the first with other layers, has their names, the later ones a key. 300 layers with two values cost 2.7 kB per
logged step.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING

from lightning_gradwatch.events import GradientEvent
from lightning_gradwatch.snapshot import Floats

PLUGIN = "gradwatch"
MAGIC = b"GRADWATCH-1\n"
VALUES = ("norm", "ratio", "nonfinite")
SERIES = ("total", "total_clipped", "max_abs", "limit", "factor", "lr_scale", "depth_factor")
ABSENT = -1.0  # no value here is negative, and NaN is a finding
HEAD = struct.Struct("<II")
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


class RunHistory:
    """Makes the summaries of one optimizer of one run. Nothing in it needs a checkpoint: a resumed run makes a new one.

    Args:
        optimizer: Index of the optimizer.
    """

    def __init__(self, optimizer: int = 0) -> None:
        self.optimizer = optimizer
        self._written: set[str] = set()

    def add(
        self,
        step: int,
        layers: Sequence[str],
        norms: Floats,
        *,
        total: float,
        total_clipped: float,
        update_ratios: Floats | None = None,
        nonfinite_share: Floats | None = None,
        max_abs: float | None = None,
        limit: float | None = None,
        factor: float = 1.0,
        lr_scale: float = 1.0,
        depth_factor: float | None = None,
    ) -> Summary:
        """The summary of one logged step, for ``file_writer.add_summary(summary, step)``.

        Args:
            step: The step axis of the loggers.
            layers: [L] names, in depth order from the input.
            norms: [L] L2 norm of each layer's gradient; NaN or inf where an entry is.
            total: L2 norm over all layers before clipping.
            total_clipped: The same after clipping.
            update_ratios: [L] norm of the weight change over norm of the weight; NaN where not measured.
            nonfinite_share: [L] share of entries that are NaN or inf, in [0, 1]; without it, 1 where the norm is.
            max_abs: Largest absolute entry.
            limit: The clip limit in force; inf where nothing is limited yet, None without a clip law.
            factor: What the gradients were multiplied by, in [0, 1].
            lr_scale: What the learning rate was multiplied by.
            depth_factor: Growth of the gradient per layer from output to input, as in the tag ``grad_depth/factor``.
        """
        key = f"{crc32(chr(0).join(layers).encode()):08x}"
        given = zip(VALUES, (norms, _unmeasured(update_ratios), nonfinite_share), strict=True)
        arrays = {name: _single(array, len(layers), name) for name, array in given if array is not None}
        numbers = (total, total_clipped, max_abs, limit, factor, lr_scale, depth_factor)
        series = dict(zip(SERIES, numbers, strict=True))
        header: dict[str, Any] = {"step": step, "series": series, "key": key, "values": list(arrays)}
        if key not in self._written:
            header["layers"] = list(layers)
            self._written.add(key)
        return self._summary("steps", header, b"".join(array.tobytes() for array in arrays.values()))

    def event(self, step: int, event: GradientEvent) -> Summary:
        """The summary of one event at `step`, the step axis of the loggers."""
        return self._summary("events", {"step": step, "event": event.to_dict()}, b"")

    def _summary(self, what: str, header: dict[str, Any], arrays: bytes) -> Summary:
        head = json.dumps({"optimizer": self.optimizer, **header}, separators=(",", ":")).encode()
        head += b" " * (-len(head) % 4)  # so that the arrays are aligned in memory
        body = HEAD.pack(crc32(head + arrays), len(head)) + head + arrays
        metadata = SummaryMetadata(data_class="DATA_CLASS_TENSOR")
        metadata.plugin_data.plugin_name = PLUGIN
        tensor = TensorProto(dtype=DT_STRING, string_val=[MAGIC + body])
        tag = f"{PLUGIN}/opt{self.optimizer}/{what}"
        return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])


def _unmeasured(ratios: Floats | None) -> Floats | None:
    return None if ratios is None else np.where(np.isnan(ratios), ABSENT, ratios)


def _single(array: Floats, size: int, name: str) -> NDArray[np.float32]:
    """The array in single precision: what is finite stays finite, what is not zero stays so."""
    if array.shape != (size,):
        raise ValueError(f"`{name}` must have one entry per layer, {size}, got shape {array.shape}.")
    kept = np.where(np.isfinite(array), np.minimum(array, _LARGEST), array)
    return np.where((kept > 0) & (kept < _SMALLEST), _SMALLEST, kept).astype("<f4")
