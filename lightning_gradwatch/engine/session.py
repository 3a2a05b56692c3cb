# SPDX-License-Identifier: Apache-2.0
"""What the callbacks of one Trainer share during a fit, and the order of things within one optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_gradwatch.compat import lightning
from lightning_gradwatch.compat.distributed import ranks_agree, with_culprit, worst_ending
from lightning_gradwatch.engine.apply import apply_actions
from lightning_gradwatch.engine.dispatch import Dispatcher
from lightning_gradwatch.engine.forward_buffers import ForwardBuffers
from lightning_gradwatch.engine.interventions import Intervention, Interventions
from lightning_gradwatch.engine.investigation import Investigation
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.engine.participant import Participant
from lightning_gradwatch.engine.recording import Recording
from lightning_gradwatch.engine.step import StepRecord, StepResult
from lightning_gradwatch.output.console import Console, tell
from lightning_gradwatch.output.failsafe import FailSafe
from lightning_gradwatch.output.tags import is_logged
from lightning_gradwatch.output.writer import Writer
from lightning_gradwatch.rules.notices import HELD, ended_elsewhere, held

MOST_LOSSES = 4096
"""Backward calls of one step whose losses are kept; bounds them where no optimizer step is ever seen."""

_PARTS = ("wants_max_abs", "on_measured", "on_applied", "wants_updates", "on_step_end", "end_batch")

T = TypeVar("T")

_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()
_left: WeakKeyDictionary[Any, tuple[dict[int, dict[str, Any]], dict[str, Any]]] = WeakKeyDictionary()


class Session:
    """One fit of one Trainer.

    Attributes:
        watches: What is known of each optimizer, by its identity.
        writer: The way to the loggers.
        recording: What the TensorBoard plugin gets.
        dispatcher: The one way of events out.
        shield: What stands between the training and whatever else reports.
        diagnosis: What looks into the modules, on demand.
        buffers: What forward passes change of the module.
        stopping: Whether a callback has stopped the training.
        steps: Optimizer steps seen.
        saw_gradient: Whether any of them had a gradient.
        interventions: What our callbacks have changed, each step once, whichever of them did.
    """

    def __init__(self, trainer: Any) -> None:
        self.watches: dict[int, OptimizerHooks] = {}
        self.writer = Writer(trainer.loggers)
        self.recording = Recording(self.writer)
        self.dispatcher = Dispatcher(Console(), self.writer)
        self.shield = FailSafe()
        self.diagnosis = Investigation()
        self.buffers = ForwardBuffers()
        self.stopping = False
        self.steps = 0
        self.interventions = Interventions()
        self.saw_gradient = False
        self._restored: dict[int, dict[str, Any]] = {}
        self._callbacks: list[Any] = []
        self._peers: list[Participant] = []
        self._diagnoses = self._skips = False
        self._parts: dict[str, list[Participant]] = {}
        self._losses: list[Tensor] = []
        self._minima: tuple[Any, Any] | None = None
        self._blind = self._told_unseen = False
        self._ordinals: dict[int, int] = {}
        self._agree = True

    @staticmethod
    def of(trainer: Any) -> Session:
        """The session of a Trainer; made on first use."""
        session = _sessions.get(trainer)
        if session is None:
            session = _sessions[trainer] = Session(trainer)
            watches, looks = _left.pop(trainer, ({}, None))
            session.load_state_dict(watches)
            if looks is not None:
                session.diagnosis.load_state_dict(looks)
        return session

    def peers(self, trainer: Any) -> list[Participant]:
        """Our callbacks, in an order that does not depend on theirs in the list."""
        if self._callbacks != trainer.callbacks:
            self._callbacks = list(trainer.callbacks)
            self._peers = sorted(
                (c for c in self._callbacks if isinstance(c, Participant)), key=lambda peer: peer.sort_key
            )
            self._diagnoses = any(peer.diagnose for peer in self._peers)
            self._skips = any(peer.skips for peer in self._peers)
            self._parts = {part: [p for p in self._peers if _plays(p, part)] for part in _PARTS}
        return self._peers

    def watch(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> OptimizerHooks:
        """What is known of an optimizer."""
        watch = self.watches.get(id(optimizer))
        if watch is None:
            names = {id(p): name for name, p in pl_module.named_parameters()}
            same = [i for i, known in enumerate(trainer.optimizers) if known is optimizer]
            watch = OptimizerHooks(optimizer, same[0] if same else len(self.watches), names, trainer.strategy.model)
            watch.load_state_dict(self._restored.pop(watch.index, {}))
            watch.on_over.append(self.diagnosis.resume)
            watch.on_taken.append(lambda: self._notice_unseen(trainer, watch))
            watch.on_taken.append(lambda: self.finish(trainer, watch, taken=True))
            self.watches[id(optimizer)] = watch
            for peer in self.peers(trainer):
                peer.begin(watch)
        return watch

    def begin_batch(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """Before the forward pass."""
        self.peers(trainer)
        if self._diagnoses:
            self.diagnosis.begin_batch(trainer, pl_module, batch)
        if self._skips:
            self.buffers.begin_batch(pl_module)

    def add_loss(self, trainer: Any, loss: Tensor) -> None:
        """Keeps the loss of one backward call, with the GradScaler's factor and accumulation's division undone."""
        loss, scale = loss.detach(), lightning.loss_scale(trainer)
        if trainer.lightning_module.automatic_optimization and trainer.accumulate_grad_batches != 1:
            loss = loss * trainer.accumulate_grad_batches
        self._losses.append(loss if scale is None else loss / scale)
        del self._losses[:-MOST_LOSSES]

    @torch.no_grad()
    def step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        """Everything that happens at one optimizer step before it is taken."""
        self.diagnosis.pause()
        if self._blind:
            return
        self.peers(trainer)
        watch = self.watch(trainer, pl_module, optimizer)
        if watch.is_engine and not lightning.at_boundary(trainer):
            return
        if self._is_again(trainer, watch):
            self._evaluate_again(trainer, pl_module, watch)
            return
        self._begin_step(trainer)
        before = self._publish(trainer, watch.arrive())
        if watch.changed():
            watch.renew()
        record = self._try_to_measure(trainer, pl_module, watch, before)
        if record is None:
            return
        watch.record = record
        self._decide(record)
        if record.ending is not None:
            self._end(record, watch)
        if not record.skipped:
            watch.arm(self.ask(peer, peer.wants_updates, record) for peer in self._parts["wants_updates"])

    def _try_to_measure(
        self, trainer: Any, pl_module: Any, watch: OptimizerHooks, before: StepResult | None
    ) -> StepRecord | None:
        """The record of a step; None where measuring fails and nobody decides by the numbers: then it ends for good."""
        try:
            return self._measure(trainer, pl_module, watch, before)
        except Exception as error:  # of whatever kind, such as a gradient of a type that torch has no norm for
            if trainer.world_size > 1 or any(peer.describe() for peer in self.peers(trainer)):
                raise  # other ranks would wait for this one, or somebody decides by these numbers
            self._blind = True
            self.shield.give_up("measure", "measuring the gradients failed, nothing is watched from here on", error)
            return None

    def _measure(self, trainer: Any, pl_module: Any, watch: OptimizerHooks, before: StepResult | None) -> StepRecord:
        """The record of a step, with what is to be judged at it; `before` is the step before, where it is known now."""
        losses, self._losses = self._losses, []
        where = lightning.position(trainer, watch.index)
        max_abs = any(peer.wants_max_abs(trainer, where["log_step"]) for peer in self._parts["wants_max_abs"])
        record = watch.measure(trainer, pl_module, losses, where, max_abs=max_abs)
        lags = watch.on_cuda and not watch.searches and self._agree
        record.lagged = lags and not self.waits(trainer, watch)
        if not record.lagged:
            record.snapshot = watch.snapshot(record)
        elif before is not None:
            record.snapshot, record.earlier = before.snapshot, before
        return record

    def _is_again(self, trainer: Any, watch: OptimizerHooks) -> bool:
        """Whether this is a further gradient of the step under way."""
        if watch.evaluations and not watch.stepping:  # the step before was not taken: a GradScaler has skipped it
            watch.leave()
            self.finish(trainer, watch, taken=watch.moved_unseen)
            self.diagnosis.pause()
        watch.evaluations += 1
        return watch.evaluations > 1

    def _begin_step(self, trainer: Any) -> None:
        if not self.steps:  # a communication hook may have been registered until now
            self._agree = ranks_agree(trainer)
        self.steps += 1
        self.buffers.end_step()
        self.diagnosis.arrive()

    def _evaluate_again(self, trainer: Any, pl_module: Any, watch: OptimizerHooks) -> None:
        """A further gradient within one step: a search gets what it saw, unless that is not finite.

        The step was counted and judged at its first gradient.
        """
        watch.searches = True
        first = watch.record
        if first is not None and first.skipped:
            self._losses.clear()
            watch.skip(first)
        elif first is None or bool(torch.isfinite(watch.meter.read(scale=first.scale).norms).all()):
            self._losses.clear()
        else:
            record = self._measure(trainer, pl_module, watch, None)
            watch.record = record
            self._decide(record)
            if record.ending is not None:
                self._end(record, watch)

    def waits(self, trainer: Any, watch: OptimizerHooks) -> bool:
        """Whether somebody has to act on this step's numbers before it is taken."""
        scaled = lightning.scaler_of(trainer) is not None
        return any(peer.acts_at_once(watch.optimizer, scaled=scaled) for peer in self.peers(trainer))

    def ask(self, peer: Participant, method: Callable[..., T | None], *args: Any) -> T | None:
        """Calls a method of one that takes part; one that only reports is switched off where it fails."""
        if not peer.only_reports:
            return method(*args)
        return self.shield.run(peer, f"{type(peer).__name__} failed", method, *args)

    def finish(self, trainer: Any, watch: OptimizerHooks, *, taken: bool) -> None:
        """Once a step is over: hands its numbers to the callbacks and loggers.

        Args:
            trainer: The Trainer.
            watch: Whose step.
            taken: Whether it may have moved the weights; a GradScaler's skip has not.
        """
        self._publish(trainer, watch.finish(taken=taken))

    def finish_batch(self, trainer: Any) -> None:
        """At the end of a batch: steps that were not taken after all are over now.

        Raises:
            StopIteration: The training was stopped. Manual optimization swallows the one that the step raised.
        """
        for watch in self.watches.values():
            if watch.record is not None:
                watch.leave()
                self.finish(trainer, watch, taken=watch.moved_unseen)
        if self.stopping:
            raise StopIteration

    def end_batch(self, trainer: Any, pl_module: Any) -> None:
        """Once its steps are over; what acts on it here may end the training."""
        self.peers(trainer)
        for peer in self._parts["end_batch"]:
            peer.end_batch(trainer, pl_module)

    def go_back(self, trainer: Any) -> None:
        """The weights are earlier ones again: what is still under way is written, and judged no more."""
        self._losses.clear()
        self.diagnosis.forget()
        for watch in self.watches.values():
            self._publish(trainer, watch.arrive())
            watch.forget()

    @torch.no_grad()
    def drain(self, trainer: Any, pl_module: Any) -> None:
        """At the end of training: judges the last step, where the host has not seen it yet."""
        for watch in self.watches.values():
            last = self._publish(trainer, watch.arrive())
            if last is not None:
                record = watch.measure(trainer, pl_module, [], lightning.position(trainer, watch.index), max_abs=False)
                record.lagged, record.snapshot, record.earlier = True, last.snapshot, last
                self._decide(record)

    @staticmethod
    def close(trainer: Any) -> None:
        """Leaves the Trainer and its optimizers as they were found."""
        session = _sessions.pop(trainer, None)
        if session is not None:
            leave = session.shield.run("left", "keeping the state for a later checkpoint failed", session._leave)
            if leave is not None:
                _left[trainer] = leave
            session.diagnosis.close()
            for watch in session.watches.values():
                watch.remove()
            if session._minima is not None:
                lightning.set_minima(trainer, session._minima)

    def state_dict(self, mean: Callable[[list[float]], list[float]] | None) -> dict[int, dict[str, Any]]:
        """The state of the watches, by optimizer index; `mean` is that over ranks."""
        for watch in self.watches.values():
            if watch.pending is not None and mean is not None:
                watch.pending.share(mean)
        return {**self._restored, **{watch.index: watch.state_dict() for watch in self.watches.values()}}

    def load_state_dict(self, state: dict[int, dict[str, Any]]) -> None:
        """Continues where `state` was taken, as the optimizers come up."""
        self._restored = dict(state)

    def interventions_state(self) -> dict[str, Any]:
        """What was changed so far, and how many steps each optimizer has made."""
        return {"kinds": self.interventions.state_dict(), "ordinals": dict(self._ordinals)}

    def load_interventions(self, state: dict[str, Any] | None) -> None:
        """Continues where `interventions_state` was taken; None for a checkpoint that has none."""
        if state is not None:
            self.interventions.load_state_dict(state["kinds"])
            self._ordinals = dict(state["ordinals"])

    @property
    def steps_in_all(self) -> int:
        """Optimizer steps of the run, those before a resume included."""
        return sum(self._ordinals.values())

    def _leave(self) -> tuple[dict[int, dict[str, Any]], dict[str, Any]]:
        """What a checkpoint of the Trainer is to hold once this is closed: after the fit, or on an exception."""
        return self.state_dict(None), self.diagnosis.state_dict()

    def _decide(self, record: StepRecord) -> None:
        if record.snapshot is not None and not math.isfinite(record.snapshot.total):
            record.snapshot, record.culprit = with_culprit(record.trainer, record.snapshot)
        for peer in self._parts["on_measured"]:
            peer.on_measured(record)
        if not self._agree:
            self._join_endings(record)
        apply_actions(record)
        self._restore_buffers(record)
        self.dispatcher.step(record)
        for peer in self._parts["on_applied"]:
            self.ask(peer, peer.on_applied, record)

    def _notice_unseen(self, trainer: Any, watch: OptimizerHooks) -> None:
        """Says it where an optimizer was stepped without Lightning, and so without us."""
        if watch.record is None and not self._blind and not self._told_unseen:
            self._told_unseen = True
            name = type(watch.optimizer).__name__
            line = f"{name} was stepped past Lightning, so nothing of that step is measured, clipped or skipped"
            advice = "under manual optimization, call step() on what self.optimizers() returns"
            tell(trainer, f"[gradwatch] note: {line}; {advice}.")

    def _restore_buffers(self, record: StepRecord) -> None:
        """A step that is skipped or undone leaves the module's statistics as they were, too."""
        if record.skipped or record.ending is not None:
            self.buffers.restore()
        elif record.bad is not None:  # a scaler skips overflows, after which the statistics of the batch are sound
            self.buffers.restore(record.bad, only_broken=not record.guard)

    def _join_endings(self, record: StepRecord) -> None:
        """Ranks that see different gradients end together: one that went on alone would wait for the others."""
        mine = 0 if record.ending is None else 1 + (record.ending.action == "abort")
        worst = worst_ending(record.trainer, mine)
        if worst > mine:
            snapshot, owner = record.snapshot, self._peers[0]
            assert snapshot is not None
            record.report(owner, ended_elsewhere(snapshot), "abort" if worst > 1 else "stop")

    def _publish(self, trainer: Any, result: StepResult | None) -> StepResult | None:
        if result is not None:
            self.peers(trainer)
            for peer in self._parts["on_step_end"]:
                self.ask(peer, peer.on_step_end, trainer, result)
            self._count(trainer, result)
            self.writer.scalars(result.scalars, result.snapshot.log_step)
            self.recording.take(result)
        return result

    def _count(self, trainer: Any, result: StepResult) -> None:
        """Counts what was changed at a step; what is changed often is told, with the setting that would spare it."""
        self.saw_gradient = self.saw_gradient or bool(result.snapshot.present.any())
        index, ordinal = result.watch.index, self._ordinals.get(result.watch.index, 0)
        self._ordinals[index] = ordinal + 1
        for kind, touch in result.touches.items():
            known = self.interventions.add(kind, result.snapshot.step, touch, index, ordinal)
            if known.becomes_frequent(index):
                self._tell_frequent(trainer, result, kind, known)
        if self.interventions and is_logged(trainer, result.snapshot.log_step):
            for kind, known in self.interventions.items():
                result.scalars[f"grad_act/{kind}"] = known.steps

    def _tell_frequent(self, trainer: Any, result: StepResult, kind: str, known: Intervention) -> None:
        owner = next((peer for peer in self.peers(trainer) if kind in peer.interventions), None)
        if owner is not None and kind in HELD:
            told = held(result.snapshot, kind, known.steps, known.factor, known.sound, asked=owner.acts_as_asked)
            self.dispatcher.emit(trainer, owner, told)

    def _end(self, record: StepRecord, watch: OptimizerHooks) -> NoReturn:
        """Ends the training, after everything was written, with the weights from before this step."""
        finding = record.ending
        assert finding is not None
        finding.owner.tripped = finding.event
        watch.abandon()
        self.finish(record.trainer, watch, taken=False)
        self._publish(record.trainer, watch.arrive())
        self.writer.flush()
        if finding.action == "abort":
            raise finding.owner.error(finding.event)
        self._minima = lightning.minima(record.trainer)
        lightning.end_training(record.trainer)
        self.stopping = True
        raise StopIteration


def _plays(peer: Participant, part: str) -> bool:
    """Whether it does something there; a call that does nothing is not for nothing, five times a step."""
    return getattr(type(peer), part) is not getattr(Participant, part)
