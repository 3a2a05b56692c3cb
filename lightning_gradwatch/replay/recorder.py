# SPDX-License-Identifier: Apache-2.0
"""Keeps what is needed to repeat the optimizer step of an alarm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lightning_gradwatch.arguments import whole_number
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.output.console import QUIET_STEPS, tell
from lightning_gradwatch.output.failsafe import FailSafe
from lightning_gradwatch.replay.files import DumpFolder
from lightning_gradwatch.replay.step_inputs import StepInputs

_KINDS = (EventKind.NONFINITE, EventKind.SPIKE, EventKind.EXPLOSION)
"""What the batch at hand can be the cause of. An update that was too large is known only after the step."""


class ReplayRecorder:
    """Keeps batch, random numbers and weights of alarms in files, if it is told where.

    Args:
        dump_dir: The folder; None for nothing, at no cost.
        max_dumps: Files per rank, the newest.
        name: Goes into the names of the files.
    """

    def __init__(self, dump_dir: str | Path | None, max_dumps: int, name: str | None) -> None:
        most = whole_number("max_dumps", max_dumps)
        self._dumps = None if dump_dir is None else DumpFolder(_folder(dump_dir), most)
        self._name = name or ""
        self._inputs = StepInputs()
        self._failsafe = FailSafe()
        self._at_hand: tuple[Any, Any] | None = None
        self._latest: dict[tuple[str, int], int] = {}

    @property
    def is_on(self) -> bool:
        """Whether it keeps anything."""
        return self._dumps is not None

    def begin_batch(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Before the forward pass."""
        if self.is_on:
            self._at_hand = trainer, pl_module
            self._inputs.begin(pl_module, batch, batch_idx)

    def end_step(self) -> None:
        """The optimizer step of this batch was judged."""
        self._inputs.seen += 1

    def end_batch(self) -> None:
        """After the optimizer step."""
        self._at_hand = None
        self._inputs.end()

    def close(self) -> None:
        """Lets everything go; the run is over."""
        self._at_hand = None
        self._inputs.end(early=True)

    def record(self, event: GradientEvent) -> None:
        """Writes a file for an alarm that is the first of its kind for a while."""
        if self._dumps is None or event.kind not in _KINDS or event.severity is not Severity.ALARM:
            return
        key = event.kind.value, event.optimizer
        is_first = event.step - self._latest.get(key, -QUIET_STEPS - 1) > QUIET_STEPS
        self._latest[key] = event.step
        if is_first and self._at_hand is not None:
            failure = "keeping the batch and the weights of an alarm failed"
            self._failsafe.run("dump", failure, self._dump, event, self._dumps, *self._at_hand)

    def state_dict(self) -> dict[str, Any]:
        """Names of the files, and when each kind was last seen; empty where nothing is kept."""
        if self._dumps is None:
            return {}
        latest = [[*key, step] for key, step in self._latest.items()]
        return {"names": list(self._dumps.names), "latest": latest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self._latest = {(kind, optimizer): step for kind, optimizer, step in state["latest"]}
        if self._dumps is not None:
            self._dumps.names = list(state["names"])

    def _dump(self, event: GradientEvent, dumps: DumpFolder, trainer: Any, pl_module: Any) -> None:
        content = {"event": event.to_dict(), **self._inputs.content(trainer, pl_module)}
        path = dumps.save(self._file_name(event), trainer.global_rank, content)
        tell(trainer, f"[gradwatch] kept batch, random numbers and weights of step {event.step} in {path}")
        for sentence in content["changed"]:
            tell(trainer, f"[gradwatch] {sentence}")

    def _file_name(self, event: GradientEvent) -> str:
        parts = [self._name, f"step_{event.step:08d}", event.kind.value]
        parts += [f"opt{event.optimizer}"] if event.optimizer else []
        return re.sub(r"[^\w.-]", "-", "_".join(part for part in parts if part))


def _folder(given: object) -> Path:
    if not isinstance(given, (str, Path)):
        raise TypeError(f"`dump_dir` must be the name of a folder, got {given!r}. Leave it out to keep nothing.")
    return Path(given)
