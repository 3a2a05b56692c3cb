# SPDX-License-Identifier: Apache-2.0
"""Reads one event file as it grows, and only our records of it.

TensorBoard's own `RawEventFileLoader` is not used: it computes a checksum over every byte of every image and histogram
in pure Python (10 MB/s), and does not say where a record lies. Here foreign records are skipped; ours carry a CRC-32.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from lightning_gradwatch.tensorboard.parsing import Record, parse
from lightning_gradwatch.tensorboard.records import PLUGIN

_FRAME = struct.Struct("<QI")  # length of the event, checksum of the length; a checksum of 4 bytes follows the event
_PREFIX = 64  # bytes: protobuf writes wall time, step and the tag first, so that ours can be told from these
_MOST = 256 * 2**20  # bytes; a longer record is not ours


@dataclass(frozen=True, slots=True)
class Found:
    """A record, when it was written (seconds since 1970), and where its arrays lie in the file (bytes)."""

    record: Record
    wall_time: float
    position: int


class EventFile:
    """One growing event file.

    Attributes:
        path: Where it is.
        damage: What is wrong with it, in a sentence, or "".
        complete: True once all that is in the file so far was read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self.complete = False
        self._offset = 0
        self._broken = False
        self._identity: tuple[int, int] | None = None

    def replaced(self) -> bool:
        """Whether what was read is no longer what the file holds: removed, rewritten or cut."""
        try:
            stat = self.path.stat()
        except OSError:
            return self._identity is not None
        identity, self._identity = self._identity, (stat.st_dev, stat.st_ino)
        return identity not in (None, self._identity) or stat.st_size < self._offset

    def read(self, deadline: float) -> Iterator[Found]:
        """New records, to the end of the file or until `deadline` (``time.monotonic``); a cut one is tried again."""
        self.complete = False
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(self._offset)
            while time.monotonic() < deadline:
                body = self._next(file, size)
                if body is None:
                    self.complete = True
                    return
                found = self._event(body, self._offset + _FRAME.size) if body else None
                self._offset = file.tell()
                if found is not None:
                    yield found

    def _next(self, file: BufferedReader, size: int) -> bytes | None:
        """The next event's bytes, b"" if it is not ours, None where no whole record follows."""
        frame = file.read(_FRAME.size)
        if self._broken or len(frame) < _FRAME.size:
            return None
        length, checksum = _FRAME.unpack(frame)
        if masked_crc32c(frame[:8]) != checksum:
            self._broken = True
            self.damage = f"{self.path.name} is damaged at byte {self._offset}: what follows is not shown."
            return None
        if self._offset + _FRAME.size + length + 4 > size:
            return None
        body = file.read(min(length, _PREFIX))
        ours = f"{PLUGIN}/opt".encode() in body and length <= _MOST
        if ours:
            body += file.read(length - len(body))
        file.seek(4 if ours else length - len(body) + 4, os.SEEK_CUR)
        return body if ours else b""

    def _event(self, body: bytes, position: int) -> Found | None:
        try:
            event = Event.FromString(body)
            raw = event.summary.value[0].tensor.string_val[0]
            record = parse(raw)
        except (DecodeError, IndexError, ValueError, RecursionError):
            self.damage = f"{self.path.name} has a damaged record at byte {self._offset}: it is left out."
            return None
        return Found(record, event.wall_time, position + body.index(raw) + record.start)
