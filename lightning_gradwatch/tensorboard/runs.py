# SPDX-License-Identifier: Apache-2.0
"""The runs of a log directory, read as they grow. No path outside that directory is ever opened."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from lightning_gradwatch.tensorboard.eventfile import EventFile, Found
from lightning_gradwatch.tensorboard.history import History

OPTIMIZERS = 64
_PAUSE = 1.0  # seconds between two looks at the files of a run
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class Run:
    """One run: a directory with event files.

    Attributes:
        histories: By index of the optimizer.
        loading: Whether there is more to read than time has allowed so far.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.histories: dict[int, History] = {}
        self.loading = True
        self._root, self._directory = root, root / name
        self._files: dict[Path, EventFile] = {}
        self._problems: list[str] = []
        self._looked = float("-inf")

    @property
    def problems(self) -> list[str]:
        """What could not be read, one sentence each."""
        return self._problems + [file.damage for file in self._files.values() if file.damage]

    def refresh(self, deadline: float) -> None:
        """Reads what is new, until `deadline` (``time.monotonic``); soon after the last complete look, nothing."""
        if not self.loading and time.monotonic() < self._looked + _PAUSE:
            return
        self._discover()
        for file in self._files.values():
            self._read(file, deadline)
        self.loading = not all(file.complete for file in self._files.values())
        self._looked = time.monotonic()

    def _discover(self) -> None:
        self._problems = []
        if any(file.replaced() for file in self._files.values()):
            self._files, self.histories = {}, {}
        try:
            names = sorted(name for name in os.listdir(self._directory) if "tfevents" in name)
        except OSError:
            self._problems.append("The folder of this run cannot be read: only log directories on a local disk can.")
            return
        for path in (self._directory / name for name in names):
            if path not in self._files and self._may_read(path):
                self._files[path] = EventFile(path)

    def _may_read(self, path: Path) -> bool:
        """Regular files inside the log directory only; a link may not lead out, a pipe would block."""
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(os.path.realpath(self._root)):
            self._problems.append(f"{path.name} is a link out of the log directory: start TensorBoard where it leads.")
            return False
        try:
            return stat.S_ISREG(real.stat().st_mode)
        except OSError:
            return False

    def _read(self, file: EventFile, deadline: float) -> None:
        try:
            for found in file.read(deadline):
                self._take(found, file)
        except OSError:
            self._problems.append(f"{file.path.name} cannot be read: look at its permissions.")
            file.complete = True

    def _take(self, found: Found, file: EventFile) -> None:
        optimizer = found.record.header["optimizer"]
        if optimizer not in self.histories and optimizer < OPTIMIZERS:
            self.histories[optimizer] = History()
        try:
            self.histories[optimizer].append(found, file.path)
        except _MALFORMED:
            file.damage = f"{file.path.name} has a malformed record: it is left out."


class LogDirectory:
    """The runs below a directory.

    Args:
        root: The log directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runs: dict[str, Run] = {}

    def refresh(self, names: Iterable[str], seconds: float) -> dict[str, Run]:
        """The runs `names`, as TensorBoard lists them, with what can be read within `seconds`; others are forgotten."""
        self._runs = {name: self._runs.get(name) or Run(self._root, name) for name in names}
        deadline = time.monotonic() + seconds
        for run in sorted(self._runs.values(), key=lambda run: not run.loading):
            run.refresh(deadline)
        return self._runs
