# SPDX-License-Identifier: Apache-2.0
"""A detector that keeps what is needed to repeat the optimizer step of an alarm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from typing_extensions import override

from lightning_gradwatch.arguments import whole_number
from lightning_gradwatch.callbacks.detector import Detector
from lightning_gradwatch.callbacks.step import StepRecord
from lightning_gradwatch.callbacks.window import Window
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.output.console import QUIET_STEPS, tell
from lightning_gradwatch.output.dump import DumpFolder
from lightning_gradwatch.output.shield import Shield

_KINDS = (EventKind.NONFINITE, EventKind.SPIKE, EventKind.EXPLOSION)
"""What the batch at hand can be the cause of. An update that was too large is known only after the step."""


class DumpingDetector(Detector):
    """Keeps evidence of its alarms, if it is told where.

    Args:
        dump_dir: The folder; None for nothing, at no cost.
        max_dumps: Files per rank, the newest.
        others: What every detector takes.
    """

    def __init__(self, *, dump_dir: str | Path | None, max_dumps: int, **others: Any) -> None:
        super().__init__(**others)
        most = whole_number("max_dumps", max_dumps)
        self._dumps = None if dump_dir is None else DumpFolder(_folder(dump_dir), most)
        self._window = Window()
        self._shield = Shield()
        self._at_hand: tuple[Any, Any] | None = None
        self._latest: dict[tuple[str, int], int] = {}

    @override
    def acts_at_once(self, optimizer: Optimizer, *, scaled: bool) -> bool:
        return self._dumps is not None

    @override
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self._dumps is not None and self._on:
            self._at_hand = trainer, pl_module
            self._window.begin(pl_module, batch, batch_idx)

    @override
    def conclude(self, record: StepRecord) -> None:
        super().conclude(record)
        self._window.seen += 1

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._at_hand = None
        self._window.end()
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._let_go()
        super().teardown(trainer, pl_module, stage)

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._let_go()
        super().on_exception(trainer, pl_module, exception)

    @override
    def keep(self, event: GradientEvent) -> None:
        super().keep(event)
        if self._dumps is None or event.kind not in _KINDS or event.severity is not Severity.ALARM:
            return
        key = event.kind.value, event.optimizer
        is_first = event.step - self._latest.get(key, -QUIET_STEPS - 1) > QUIET_STEPS
        self._latest[key] = event.step
        if is_first and self._at_hand is not None:
            failure = "keeping the batch and the weights of an alarm failed"
            self._shield.run("dump", failure, self._dump, event, self._dumps, *self._at_hand)

    def _dump(self, event: GradientEvent, dumps: DumpFolder, trainer: Any, pl_module: Any) -> None:
        content = {"event": event.to_dict(), **self._window.content(trainer, pl_module)}
        path = dumps.save(self._name_of(event), trainer.global_rank, content)
        tell(trainer, f"[gradwatch] kept batch, random numbers and weights of step {event.step} in {path}")
        for sentence in content["changed"]:
            tell(trainer, f"[gradwatch] {sentence}")

    def _name_of(self, event: GradientEvent) -> str:
        parts = [self.name or "", f"step_{event.step:08d}", event.kind.value]
        parts += [f"opt{event.optimizer}"] if event.optimizer else []
        return re.sub(r"[^\w.-]", "-", "_".join(part for part in parts if part))

    def _let_go(self) -> None:
        self._at_hand = None
        self._window.end(early=True)

    @override
    def memory(self) -> dict[str, Any]:
        if self._dumps is None:
            return super().memory()
        latest = [[*key, step] for key, step in self._latest.items()]
        return {**super().memory(), "dumps": {"names": list(self._dumps.names), "latest": latest}}

    @override
    def recall(self, state: dict[str, Any]) -> None:
        super().recall(state)
        kept = state.get("dumps")
        if kept is not None:
            self._latest = {(kind, optimizer): step for kind, optimizer, step in kept["latest"]}
            if self._dumps is not None:
                self._dumps.names = list(kept["names"])


def _folder(given: object) -> Path:
    if not isinstance(given, (str, Path)):
        raise TypeError(f"`dump_dir` must be the name of a folder, got {given!r}. Leave it out to keep nothing.")
    return Path(given)
