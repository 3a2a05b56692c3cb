# SPDX-License-Identifier: Apache-2.0
"""Findings that are being looked into: at once from the batch at hand, and from the batches that follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from lightning_gradwatch.compat.distributed import ranks_agree
from lightning_gradwatch.diagnosis import (
    RESIDUAL,
    Activation,
    Evidence,
    History,
    Input,
    Request,
    Setup,
    advice,
    diagnosed,
    explained,
    fitting,
    gather,
    hidden,
    inputs_of,
    inspect,
    outlier,
    read_setup,
    weigh,
)
from lightning_gradwatch.engine.probes import Probes
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.probe_reading import ProbeReading
from lightning_gradwatch.snapshot import GradientSnapshot

if TYPE_CHECKING:
    from lightning_gradwatch.engine.participant import Participant
    from lightning_gradwatch.engine.step import StepRecord

BATCHES = 3
"""Batches that are looked at after a finding."""

QUIET_STEPS = 500
"""Optimizer steps before the same kind of finding is looked into again."""

_AT_ONCE = (EventKind.NONFINITE, EventKind.SPIKE, EventKind.EXPLOSION)
_LATER = (
    *_AT_ONCE,
    EventKind.UPDATE_TOO_LARGE,
    EventKind.SCALER_STUCK,
    EventKind.VANISHING,
    EventKind.STALLED,
    EventKind.DEAD,
    EventKind.SATURATED,
)


class Investigation:
    """What is looked into during one fit. That there is a result is the same on all ranks, its words need not be."""

    def __init__(self) -> None:
        self._looks = Probes()
        self._closed = False
        self._batch: Any = None
        self._requests: list[Request] = []
        self._asking: list[Request] = []  # those for whom the batch at hand is looked at
        self._expecting: list[Request] = []  # those for whom the last one was; its numbers may be on their way
        self._asked: dict[tuple[EventKind, int], int] = {}
        self._histories: dict[int, History] = {}

    @property
    def look(self) -> ProbeReading | None:
        """The latest that was read for the rules; None before the first."""
        return self._looks.latest

    def begin_batch(self, trainer: Any, pl_module: nn.Module, batch: Any) -> None:
        """Keeps the batch at hand, and has read of it what is asked for."""
        self._looks.release()
        self._batch = batch
        if self._closed:
            return
        self._asking = [request for request in self._requests if request.begun < BATCHES]
        self._looks.begin(trainer, pl_module, batch, asked=bool(self._asking))
        inputs = self._inputs() if self._asking else []
        for request in self._asking:
            request.begun += 1
            request.readings.inputs.append(inputs)

    def pause(self) -> None:
        """An optimizer steps."""
        self._looks.pause()

    def resume(self) -> None:
        """It has stepped, or will not."""
        self._looks.resume()

    def end_batch(self, trainer: Any, pl_module: Any) -> None:
        """Lets the batch go."""
        self._batch = None
        self.arrive()
        self._looks.end(trainer, pl_module)
        self._expecting, self._asking = self._asking, []

    def arrive(self) -> None:
        """What was read of a batch before is known now."""
        numbers, expecting = self._looks.arrive(), self._expecting
        self._expecting = []
        if numbers is None:
            return
        for request in expecting:
            request.looks += 1
            request.readings.numbers.append(numbers)

    def follow(self, record: StepRecord) -> None:
        """Remembers of a step what may explain a later finding."""
        if record.snapshot is not None:
            self._history(record.where["optimizer"]).follow(record.snapshot)

    def explain(self, record: StepRecord, event: GradientEvent) -> GradientEvent:
        """The finding with the cause that the evidence at hand names."""
        if event.severity is not Severity.INFO:
            with self._looks.guard:
                event = self._weighed(record, event)
        return self._batch_told(record, event) if event.kind is EventKind.NONFINITE else event

    def _weighed(self, record: StepRecord, event: GradientEvent) -> GradientEvent:
        history, evidence = self._history(event.optimizer), self._first(record)
        optimizer = record.watch.optimizer
        history.meet(type(optimizer).__name__, optimizer.param_groups)
        if event.kind in _AT_ONCE and not record.lagged:
            far = outlier(inspect(self._batch), evidence.inputs)
            history.outlier = history.outlier if far is None else (event.step, far)
        cause = weigh(event, evidence, history)
        if cause is not None:
            event = replace(event, cause=cause.text, remedies=advice(event, cause, history))
        return replace(event, remedies=fitting(event.remedies, evidence, history))

    def _history(self, optimizer: int) -> History:
        if optimizer not in self._histories:
            self._histories[optimizer] = History()
        return self._histories[optimizer]

    def _first(self, record: StepRecord) -> Evidence:
        """What the first batch was, and how the model is built and trained."""
        setup = Setup() if record.snapshot is None else self._setup(record, record.snapshot)
        numbers = self._looks.first or {}
        return Evidence(
            inputs=inputs_of(numbers),
            activations=[Activation(name, f, numbers[f"{what} {f} {name}"]) for what, f, name in hidden(list(numbers))],
            residual=RESIDUAL in numbers,
            first=self._looks.scales or {},
            setup=setup,
        )

    @staticmethod
    def _setup(record: StepRecord, snapshot: GradientSnapshot) -> Setup:
        groups = record.watch.optimizer.param_groups
        return read_setup(record.pl_module, snapshot, groups, _clipping(record.trainer))

    def _batch_told(self, record: StepRecord, event: GradientEvent) -> GradientEvent:
        """A gradient that is not finite, with what the batch at hand tells of it; on CUDA as it is.

        There the step before is judged. Gradients are equal on all ranks, so all of them have found it and ask each
        other now whose batch was bad.
        """
        if record.lagged or record.snapshot is None:
            return event
        loss = record.snapshot.loss
        single = not record.pl_module.automatic_optimization or record.trainer.accumulate_grad_batches == 1
        inputs = self._inputs()
        bad = sum(one.nan + one.inf for one in inputs)
        at_fault = _at_fault(bad, record.pl_module.device) if ranks_agree(record.trainer) else []
        with self._looks.guard:
            return explained(event, inputs, loss, at_fault=at_fault, all_seen=single)
        return event

    def look_into(self, record: StepRecord, owner: Participant, event: GradientEvent) -> None:
        """Has the cause of a finding looked for in the next batches, unless that was done not long ago."""
        key = event.kind, event.optimizer
        recently = key in self._asked and event.step - self._asked[key] < QUIET_STEPS
        if event.kind not in _LATER or event.severity is Severity.INFO or recently or self._closed:
            return
        self._asked[key] = event.step
        then = self._inputs() if event.kind in _AT_ONCE and not record.lagged else []
        self._requests.append(Request(owner.sort_key, event, then))

    def look_at_next(self) -> None:
        """Has the units of the next batch read, for a rule."""
        self._looks.wanted = True

    def results(self, record: StepRecord, owner: Participant) -> Iterator[GradientEvent]:
        """What was found out about the findings of one callback and the optimizer of this step."""
        now = record.snapshot
        for request in list(self._requests):
            mine = request.owner == owner.sort_key and request.event.optimizer == record.where["optimizer"]
            if now is None or not mine or request.looks < BATCHES:
                continue
            self._requests.remove(request)
            evidence = Evidence()
            with self._looks.guard:
                evidence = gather(request.readings, now, record.pl_module, self._setup(record, now))
            with self._looks.guard:
                history = self._history(request.event.optimizer)
                result = diagnosed(request.event, request.then, evidence, request.looks, now)
                if result is not None:
                    yield replace(result, remedies=fitting(result.remedies, evidence, history))

    def forget(self) -> None:
        """What was to be looked into is gone: the weights are other ones now."""
        self.arrive()
        self._requests.clear()

    def close(self) -> None:
        """Leaves no hook and no reference behind."""
        self._looks.release()
        self._batch = None
        self._requests.clear()
        self._closed = True

    def state_dict(self) -> dict[str, Any]:
        """What the rules are to see next, and what is being looked into."""
        self.arrive()
        return {
            "looks": self._looks.state_dict(),
            "requests": [request.to_dict() for request in self._requests],
            "histories": [[optimizer, history.state_dict()] for optimizer, history in self._histories.items()],
            "asked": [[kind.value, optimizer, step] for (kind, optimizer), step in self._asked.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self._looks.load_state_dict(state["looks"])
        self._requests = [Request.from_dict(request) for request in state["requests"]]
        self._asked = {(EventKind(kind), optimizer): step for kind, optimizer, step in state["asked"]}
        for optimizer, history in state.get("histories", ()):
            self._history(optimizer).load_state_dict(history)

    def _inputs(self) -> list[Input]:
        with self._looks.guard:
            return inspect(self._batch)
        return []


def _clipping(trainer: Any) -> tuple[str, float] | None:
    """How the Trainer clips, and its limit."""
    limit = trainer.gradient_clip_val
    return (str(trainer.gradient_clip_algorithm or "norm"), float(limit)) if limit else None


def _at_fault(bad: int, device: torch.device) -> list[int]:
    """The ranks that have bad values; empty without ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return []
    counts = torch.zeros(dist.get_world_size(), device=device)
    counts[dist.get_rank()] = bad
    dist.all_reduce(counts)
    return [rank for rank, count in enumerate(counts.tolist()) if count]
