# SPDX-License-Identifier: Apache-2.0
"""One optimizer and its steps: when they begin, are taken, skipped, or over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_gradwatch.compat import deepspeed, lightning
from lightning_gradwatch.engine.optimizer_state import OptimizerState
from lightning_gradwatch.engine.skip import Rollback, skip_on_host, zero_gradients
from lightning_gradwatch.engine.step import StepRecord, StepResult
from lightning_gradwatch.lr.known import is_torch_own, searches
from lightning_gradwatch.measurement.sharding import local

MOST_COPIED = 2**30
"""Bytes of weights beyond which a step of an optimizer that is not torch's own is skipped without a copy: gradients are
taken away, and what it does without them it does."""


class OptimizerHooks(OptimizerState):
    """One optimizer and its steps.

    Args:
        optimizer: As the hook receives it.
        index: Its place in ``trainer.optimizers``.
        names: The names of the module's parameters, by their identity.
        module: The module as the strategy wrapped it.

    Attributes:
        record: The step that was judged and is not over.
        stepping: Whether ``optimizer.step`` is under way.
        evaluations: How often this step's gradients were seen: LBFGS asks for them several times.
        on_begin: Called when ``optimizer.step`` begins.
        on_taken: Called when it has been taken; not where a GradScaler skips it.
        on_over: Called when it is over, taken or not, before `on_taken`.
    """

    def __init__(self, optimizer: Optimizer, index: int, names: dict[int, str], module: Any) -> None:
        super().__init__(optimizer, index, names, module)
        self.record: StepRecord | None = None
        self.stepping = False
        self.evaluations = 0
        self.on_begin: list[Callable[[], None]] = []
        self.on_taken: list[Callable[[], None]] = []
        self.on_over: list[Callable[[], None]] = []
        self._rollback: Rollback | None = None
        self._roll_back = False
        self._told_to_skip = False
        self._handles: list[Any] = []
        self._own_limit: float | None = None
        inner: Any = getattr(optimizer, "optimizer", None) if self.is_engine else optimizer
        if hasattr(inner, "register_step_post_hook"):
            # DeepSpeed steps its inner optimizer once for each group: there the end of the batch ends the step.
            over = self.leave if self.is_engine else self._taken
            with contextlib.suppress(TypeError):  # a wrapper that has plain dictionaries in the place of torch's
                self._handles = [
                    inner.register_step_pre_hook(lambda *_: self._begin()),
                    inner.register_step_post_hook(lambda *_: over()),
                ]
            self.hooked = bool(self._handles)

    @property
    def moved_unseen(self) -> bool:
        """Whether a step that was not reported as taken may have moved the weights all the same."""
        return not getattr(self.optimizer, "overflow", False) if self.is_engine else not self._handles

    def measure(
        self, trainer: Any, pl_module: Any, losses: list[Tensor], where: dict[str, int], *, max_abs: bool
    ) -> StepRecord:
        """The record of a step that begins; `where` is the position in the run."""
        reading, scale, numbers = self.read(trainer, losses, max_abs=max_abs)
        return StepRecord(trainer, pl_module, self, reading, scale, where, numbers)

    def skip(self, record: StepRecord) -> None:
        """Makes the coming step a no-op; DeepSpeed skips a non-finite one by itself."""
        if self.is_engine:
            return
        if self._rollback is None and not is_torch_own(self.optimizer) and self._may_copy():
            self._rollback = Rollback(self.optimizer)  # without gradients it may still count, average or look ahead
        self._roll_back = self._rollback is not None
        if self._rollback is not None and self._rollback.is_whole and not self.searches and record.scale is None:
            zero_gradients(self.meter.parameters)
            return
        skip_on_host(self.meter.parameters, scaled=record.scale is not None)

    def limit_engine(self, max_norm: float) -> None:
        """Has DeepSpeed clip the coming step, to no more than its own limit."""
        self._own_limit = own = deepspeed.limit(self.optimizer)
        deepspeed.set_limit(self.optimizer, min(max_norm, own or max_norm))

    def skip_on_device(self, found_inf: Tensor) -> None:
        """Makes the coming step a no-op where `found_inf` is 1.0, which the host does not know yet."""
        lightning.skip_on_device(self.optimizer, found_inf)
        self._told_to_skip = True

    def finish(self, *, taken: bool) -> StepResult | None:
        """The result of the step that is over now; None if there is none, or its numbers still have to travel."""
        record, self.record = self.record, None
        if self._own_limit is not None:
            deepspeed.set_limit(self.optimizer, self._own_limit)
            self._own_limit = None
        if record is not None and record.edited and taken and not self.is_engine:
            with torch.no_grad():
                record.total_clipped = torch.linalg.vector_norm(self.meter.read().norms)
        return self.settled(record, taken=taken)

    def leave(self) -> None:
        """The step under way is not taken, or is taken no further: undoes what waits for its end."""
        self.stepping, self.evaluations = False, 0
        if self._told_to_skip:  # else the attributes are a GradScaler's
            lightning.forget_skip(self.optimizer)
            self._told_to_skip = False
        if self._rollback is not None and self._roll_back:
            self._rollback.restore()
        self._rollback, self._roll_back = None, False
        for call in reversed(self.on_over):  # several may have multiplied the learning rate
            call()

    def abandon(self) -> None:
        """The run ends within a step: weights as they were before it."""
        self._roll_back = True
        self.leave()

    def remove(self) -> None:
        """Takes the hooks off the optimizer."""
        self.leave()
        for handle in self._handles:
            handle.remove()

    def _begin(self) -> None:
        self.stepping = True
        if self.searches and self._may_copy():
            self._rollback = Rollback(self.optimizer)
        for call in self.on_begin:
            call()

    def _may_copy(self) -> bool:
        """Whether a copy of weights and state can be afforded: no step of a large model may fail for it."""
        return searches(self.optimizer) or sum(local(p).nbytes for p in self.meter.parameters) <= MOST_COPIED

    def _taken(self) -> None:
        self.leave()
        for call in self.on_taken:
            call()
