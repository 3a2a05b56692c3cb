# SPDX-License-Identifier: Apache-2.0
"""One optimizer of one run as the plugin knows it: an index of logged steps, an overview of them, and the events."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from io import FileIO
from itertools import groupby
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_gradwatch.events import GradientEvent
from lightning_gradwatch.snapshot import Floats
from lightning_gradwatch.tensorboard.eventfile import Found
from lightning_gradwatch.tensorboard.layouts import Layouts
from lightning_gradwatch.tensorboard.overview import Cells, Overview
from lightning_gradwatch.tensorboard.records import ABSENT, SERIES, VALUES

EVENTS = 5000  # the newest are kept


class History:
    """Logged steps 0 to n - 1, called rows, each with its step, its series, and the place of its arrays in a file.

    Attributes:
        layouts: The layers of the run.
        events: The newest `EVENTS` events as `GradientEvent.to_dict` makes them.
        overview: The run in bounded memory.
    """

    def __init__(self) -> None:
        self.layouts = Layouts()
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self.overview = Overview()
        self._steps, self._positions, self._shapes, self._file_of = array("q"), array("q"), array("q"), array("q")
        self._series = {name: array("d") for name in ("wall_time", *SERIES)}
        self._files: dict[Path, int] = {}

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def layers(self) -> list[str]:
        """All names in depth order."""
        return [self.layouts.layers[i] for i in self.layouts.depth]

    @property
    def steps(self) -> NDArray[np.int64]:
        """[rows], rising."""
        return np.array(self._steps, dtype=np.int64)

    def series(self, name: str) -> Floats:
        """[rows] of ``"wall_time"`` or one of `SERIES`; NaN where there is none."""
        return np.array(self._series[name], dtype=np.float64)

    def between(self, first: float, last: float) -> tuple[int, int]:
        """The rows from step `first` to step `last`, inclusive, as a half-open range."""
        return bisect_left(self._steps, first), bisect_right(self._steps, last)

    def append(self, found: Found, file: Path) -> None:
        """Takes in one record, or raises (what is malformed shows in many ways) and takes in no step and no event."""
        header = found.record.header
        if "event" in header:
            event = GradientEvent.from_dict(header["event"])
            self.events.append({**event.to_dict(), "log_step": header["step"]})
            return
        shape = self.layouts.shape(header)
        row = self.layouts.shapes[shape].unpack(found.record.arrays, len(self.layouts.layers))
        given = [header["series"][name] for name in SERIES]
        series = [found.wall_time, *(nan if number is None else float(number) for number in given)]
        self._forget(header["step"])
        places = (header["step"], found.position, shape, self._files.setdefault(file, len(self._files)))
        for place, store in zip(places, self._indices(), strict=True):
            store.append(place)
        for number, numbers in zip(series, self._series.values(), strict=True):
            numbers.append(number)
        self.overview.append(row)

    def rows(self, first: int, last: int) -> Iterator[Cells]:
        """Rows `first` to `last`, exclusive, from the files: [values, layers] each; absent where a file is gone."""
        paths = list(self._files)
        for number, group in groupby(range(first, last), key=self._file_of.__getitem__):
            if not paths[number].is_file():
                yield from (self._nothing() for _ in group)
                continue
            with paths[number].open("rb", buffering=0) as file:
                yield from (self._read(file, row) for row in group)

    def _read(self, file: FileIO, row: int) -> Cells:
        shape = self.layouts.shapes[self._shapes[row]]
        size = 4 * len(shape.values) * len(shape.places)
        file.seek(self._positions[row])
        data = file.read(size)
        whole = len(data) == size
        return shape.unpack(np.frombuffer(data, "<f4"), len(self.layouts.layers)) if whole else self._nothing()

    def _nothing(self) -> Cells:
        return np.full((len(VALUES), len(self.layouts.layers)), ABSENT, dtype=np.float32)

    def _indices(self) -> tuple[array[int], ...]:
        return self._steps, self._positions, self._shapes, self._file_of

    def _forget(self, step: int) -> None:
        """A resumed run has gone back to `step`: what an abandoned branch wrote from there on is dropped."""
        row = bisect_left(self._steps, step)
        if row == len(self):
            return
        if step < self._steps[-1]:
            self.events = deque((event for event in self.events if event["log_step"] <= step), maxlen=EVENTS)
        for store in self._indices():
            del store[row:]
        for numbers in self._series.values():
            del numbers[row:]
        for again in self.rows(self.overview.truncate(row), row):
            self.overview.append(again)
