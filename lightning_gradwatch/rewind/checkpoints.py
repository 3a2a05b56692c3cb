# SPDX-License-Identifier: Apache-2.0
"""The states of a run that are kept: one that has proved good, and a newer one that has yet to."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from lightning_gradwatch.engine.session import Session
from lightning_gradwatch.errors import GradwatchError
from lightning_gradwatch.rewind.trained_tensors import TrainedTensors, finite
from lightning_gradwatch.rewind.training_state import TrainingState


@dataclass
class Copy:
    """The state of a run at one step.

    Attributes:
        kept: Its tensors.
        step: ``trainer.global_step`` then.
        learned: What each of our callbacks went by, by its rank among the others.
        finite: Names of the weights and buffers that were finite.
        times: How often the run went back to it.
    """

    kept: TrainingState
    step: int = 0
    learned: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    finite: frozenset[str] = frozenset()
    times: int = 0


class CheckpointHistory:
    """Keeps two states of a run, and puts the older one back.

    An alarm comes some steps late, so a new state counts as good only once so many steps have gone by without one.

    Args:
        every: Optimizer steps from one state to the next.
        healthy: Optimizer steps until one counts as good.
        dirpath: Where they lie, in a folder of their own that `close` deletes; None for the memory.
        trainer: Before the first step, or the first after a resume.
        pl_module: Its module.

    Attributes:
        good: The state to go back to.

    Raises:
        GradwatchError: The first state could not be written.
    """

    def __init__(self, every: int, healthy: int, dirpath: str | None, trainer: Any, pl_module: Any) -> None:
        self._every, self._healthy = every, healthy
        self._folder: TemporaryDirectory[str] | None = None
        if dirpath is not None:
            Path(dirpath).mkdir(parents=True, exist_ok=True)
            self._folder = TemporaryDirectory(prefix="gradwatch-rewind-", dir=dirpath)
        self._changing = TrainedTensors(trainer, pl_module)
        self._meters: list[Any] = []
        self._candidate: Copy | None = None
        self._spare = Copy(self._place(1))
        self._taken_at = 0
        self.good = Copy(self._place(0))
        self._finite: frozenset[str] = frozenset()
        self.sound(trainer, pl_module)
        if not self._take(self.good, trainer, pl_module):
            self.close()
            raise GradwatchError(
                "Rewind could not write the state of the run to its `dirpath`: the disk is full, or not to be written"
                " to. Give another folder, or leave `dirpath` out to keep it in memory."
            )

    @property
    def nbytes(self) -> int:
        """What both states take."""
        return sum(one.kept.nbytes for one in (self.good, self._candidate or self._spare))

    def tensors(self, trainer: Any, pl_module: Any) -> dict[str, Tensor]:
        """What the training changes of the module."""
        return self._changing(trainer, pl_module)

    def due(self, trainer: Any) -> bool:
        """Whether it is time for a new state, which must be `sound`."""
        free = self._candidate is None or self._proved(trainer)
        return free and bool(trainer.global_step - self._taken_at >= self._every)

    def sound(self, trainer: Any, pl_module: Any) -> bool:
        """Whether what was finite in the good state is so on all ranks; a collective where there are several."""
        tensors = self.tensors(trainer, pl_module)
        self._finite = finite(tensors)
        return _on_all(trainer, answer=self.good.finite & tensors.keys() <= self._finite)

    def step(self, trainer: Any, pl_module: Any) -> bool:
        """A step over which there is no suspicion; whether another state is the good one now."""
        if self._met_others(trainer) and self.sound(trainer, pl_module):
            self.drop()
            taken = self._take(self._spare, trainer, pl_module)
            if taken:
                self.good, self._spare = self._spare, self.good
            return taken
        due, proved = self.due(trainer), self._proved(trainer)
        if proved and self._candidate is not None:
            self.good, self._spare, self._candidate = self._candidate, self.good, None
        if due and self._take(self._spare, trainer, pl_module):
            self._candidate = self._spare
        return proved

    def go_back(self, trainer: Any, pl_module: Any) -> None:
        """Makes everything again what it was in the good state; what came after it is dropped."""
        session = Session.of(trainer)
        session.go_back(trainer)
        self.good.kept.put_back(trainer, self.tensors(trainer, pl_module))
        self.good.times += 1
        self._taken_at = trainer.global_step
        for peer in session.peers(trainer):
            if peer.sort_key in self.good.learned:
                peer.relearn(deepcopy(self.good.learned[peer.sort_key]))

    def close(self) -> None:
        """Leaves no file behind."""
        if self._folder is not None:
            self._folder.cleanup()

    def drop(self) -> None:
        """The state that has yet to prove good is none to go back to."""
        if self._candidate is not None:
            self._spare, self._candidate = self._candidate, None

    def _place(self, number: int) -> TrainingState:
        return TrainingState(None if self._folder is None else Path(self._folder.name, f"{number}.pt"))

    def _proved(self, trainer: Any) -> bool:
        """Whether the newer state may take the place of the good one."""
        return self._candidate is not None and bool(trainer.global_step - self._candidate.step >= self._healthy)

    def _take(self, generation: Copy, trainer: Any, pl_module: Any) -> bool:
        """Whether all ranks could; a disk may be full."""
        taken = generation.kept.take(trainer, self.tensors(trainer, pl_module))
        generation.step = self._taken_at = trainer.global_step
        generation.learned = {p.sort_key: deepcopy(p.learned()) for p in Session.of(trainer).peers(trainer)}
        generation.finite, generation.times = self._finite, 0
        return _on_all(trainer, answer=taken) if generation.kept.file is not None else taken

    def _met_others(self, trainer: Any) -> bool:
        """Whether parameters were added, frozen or unfrozen, whose former values nobody kept."""
        before, self._meters = self._meters, [watch.meter for watch in Session.of(trainer).watches.values()]
        return bool(before) and [id(meter) for meter in before] != [id(meter) for meter in self._meters]


def _on_all(trainer: Any, *, answer: bool) -> bool:
    """Whether all ranks say so."""
    return answer if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(answer, all=True))
