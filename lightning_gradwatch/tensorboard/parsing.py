# SPDX-License-Identifier: Apache-2.0
"""Reads one record back. An event file may hold anything: all is checked that the rest of the plugin relies on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.tensorboard.records import HEAD, MAGIC


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What one summary says, read back.

    Attributes:
        header: What `RunHistory` wrote; `optimizer` and `step` are checked to be integers.
        start: Where the arrays begin, in bytes from the start of the record.
        arrays: All of them, one after the other.
    """

    header: dict[str, Any]
    start: int
    arrays: NDArray[np.float32]


def parse(record: bytes) -> Record:
    """Reads what `RunHistory` wrote.

    Raises:
        ValueError: It is cut short, altered, or not one of ours.
    """
    start = len(MAGIC) + HEAD.size
    if not record.startswith(MAGIC) or len(record) < start:
        raise ValueError("Not a record of this plugin.")
    checksum, length = HEAD.unpack_from(record, len(MAGIC))
    if crc32(memoryview(record)[start:]) != checksum or len(record) < start + length:
        raise ValueError("The record is damaged.")
    header = json.loads(record[start : start + length])
    if not isinstance(header, dict) or not all(_is_count(header.get(name)) for name in ("optimizer", "step")):
        raise ValueError("The record has no step or no optimizer.")
    start += length
    return Record(header, start, np.frombuffer(record, "<f4", (len(record) - start) // 4, start))


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**62  # fits an array of 64-bit integers
