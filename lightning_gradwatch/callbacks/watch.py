# SPDX-License-Identifier: Apache-2.0
"""What is known of one optimizer: its parameters, the step under way, and the numbers of the step before."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from lightning_gradwatch import zero
from lightning_gradwatch.callbacks import private
from lightning_gradwatch.callbacks.pending import Pending
from lightning_gradwatch.callbacks.skipping import Rollback, skip_on_host
from lightning_gradwatch.callbacks.step import StepRecord, StepResult, Wanted
from lightning_gradwatch.measure import Meter, to_host
from lightning_gradwatch.snapshot import Floats, GradientSnapshot
from lightning_gradwatch.updates import UpdateProbe

WEIGHTS_EVERY = 10
"""Steps between two looks at the norms of the weights: they change slowly, and cost as much as the gradients'."""

SAMPLE_BYTES = 4 * 2**20
"""Bytes of weights that a sample compares, which the detectors take every few steps."""


class Watch:
    """One optimizer.

    Attributes:
        optimizer: As the hook receives it.
        index: Its place in ``trainer.optimizers``.
        meter: Measures its gradients.
        probe: Measures its updates.
        groups: The parameters of each parameter group, as indices.
        record: The step that was judged and is not over.
        pending: The step before, where its numbers are still on their way to the host.
        is_engine: Whether DeepSpeed steps the optimizer.
        stepping: Whether ``optimizer.step`` is under way.
        evaluations: How often this step's gradients were seen: LBFGS asks for them several times.
        on_begin: Called when ``optimizer.step`` begins.
        on_taken: Called when it has been taken; not where a GradScaler skips it.
        on_over: Called when it is over, taken or not, before `on_taken`.
    """

    def __init__(self, optimizer: Optimizer, index: int, names: dict[int, str], module: Any) -> None:
        self.optimizer, self.index = optimizer, index
        self._names, self._module = names, module
        self.record: StepRecord | None = None
        self.pending: Pending | None = None
        self.stepping = False
        self.evaluations = 0
        self.on_begin: list[Callable[[], None]] = []
        self.on_taken: list[Callable[[], None]] = []
        self.on_over: list[Callable[[], None]] = []
        self._rollback: Rollback | None = None
        self._roll_back = False
        self._told_to_skip = False
        self._handles: list[Any] = []
        self.is_engine = zero.is_engine(optimizer)
        self._own_limit: float | None = None
        inner: Any = getattr(optimizer, "optimizer", None) if self.is_engine else optimizer
        if hasattr(inner, "register_step_post_hook"):
            # DeepSpeed steps its inner optimizer once for each group: there the end of the batch ends the step.
            over = self.leave if self.is_engine else self._taken
            self._handles = [
                inner.register_step_pre_hook(lambda *_: self._begin()),
                inner.register_step_post_hook(lambda *_: over()),
            ]
        self.renew()

    @property
    def moved_unseen(self) -> bool:
        """Whether a step that was not reported as taken may have moved the weights all the same."""
        return not getattr(self.optimizer, "overflow", False) if self.is_engine else not self._handles

    @property
    def on_cuda(self) -> bool:
        """Whether reading a number would make the host wait."""
        return any(parameter.is_cuda for parameter in self.meter.parameters[:1])

    def renew(self) -> None:
        """Starts over with the parameters that the optimizer holds now, in the order of the module."""
        self._met = self._trained()
        parameters = list(self._met)
        order = {key: i for i, key in enumerate(self._names)}
        parameters.sort(key=lambda p: order.get(id(p), len(order)))
        unnamed = (f"parameter_{i}" for i in range(len(parameters)))
        self.meter = Meter([(self._names.get(id(p)) or next(unnamed), p) for p in parameters], self._module)
        self.probe = UpdateProbe(self.meter)
        place = {id(p): i for i, p in enumerate(parameters)}
        self.groups = [
            np.array([place[id(p)] for p in group if id(p) in place], dtype=np.intp)
            for group in zero.groups(self.optimizer)
        ]
        self._ratios: Floats | None = None
        self._weights: Floats | None = None
        self._weights_due = 0

    def changed(self) -> bool:
        """Whether parameters were added, frozen or unfrozen since."""
        now = self._trained()
        return len(now) != len(self._met) or not all(map(operator.is_, now, self._met))

    def measure(self, trainer: Any, pl_module: Any, losses: list[Tensor], *, max_abs: bool) -> StepRecord:
        """Reads this step's gradients; on CUDA without waiting."""
        scale = zero.loss_scale(self.optimizer) or private.gradient_scale(trainer, self.optimizer)
        reading = self.meter.read(scale=scale, max_abs=max_abs)
        numbers: dict[str, Tensor | Floats] = {"norms": reading.norms}
        numbers["present"] = (
            reading.present if isinstance(reading.present, Tensor) else reading.present.astype(np.float64)
        )
        if reading.max_abs is not None:
            numbers["max_abs"] = reading.max_abs
        if losses:
            numbers["loss"] = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        loss_scale = zero.loss_scale(self.optimizer) or private.loss_scale(trainer)
        if loss_scale is not None:
            numbers["loss_scale"] = torch.as_tensor(loss_scale)
        self._weights_due -= 1
        if self._weights_due < 0:
            self._weights_due = WEIGHTS_EVERY - 1
            numbers["weights"] = self.meter.weight_norms()
        where = private.position(trainer, self.index)
        return StepRecord(trainer, pl_module, self, reading, scale, where, numbers)

    def snapshot(self, record: StepRecord) -> GradientSnapshot:
        """This step's snapshot, now; waits for the device."""
        numbers = {name: to_host(values) for name, values in record.numbers.items()}
        numbers["norms"] = self.meter.confirm(numbers["norms"], record.reading, record.scale)
        return self._snapshot(numbers, record.where, private.learning_rate(self.optimizer))

    def arm(self, wanted: Iterable[Wanted]) -> None:
        """Right before the step: copies the weights whose relative update somebody wants to know."""
        requests = [request for request in wanted if request is not None]
        named = sorted({i for request in requests if not isinstance(request, str) for i in request})
        if "all" in requests:
            self.probe.arm()
        elif named:
            self.probe.arm(named)
        elif "sample" in requests:
            self.probe.arm(most_bytes=SAMPLE_BYTES)

    def skip(self, record: StepRecord) -> None:
        """Makes the coming step a no-op; DeepSpeed skips a non-finite one by itself."""
        if self.is_engine:
            return
        self._roll_back = self._rollback is not None
        skip_on_host(self.meter.parameters, scaled=record.scale is not None)

    def limit_engine(self, max_norm: float) -> None:
        """Has DeepSpeed clip the coming step, to no more than its own limit."""
        self._own_limit = own = float(self.optimizer.clip_grad)  # type: ignore[attr-defined]
        self.optimizer.clip_grad = min(max_norm, own or max_norm)  # type: ignore[attr-defined]

    def skip_on_device(self, found_inf: Tensor) -> None:
        """Makes the coming step a no-op where `found_inf` is 1.0, which the host does not know yet."""
        private.skip_on_device(self.optimizer, found_inf)
        self._told_to_skip = True

    def finish(self, *, taken: bool) -> StepResult | None:
        """The result of the step that is over now; None if there is none, or its numbers still have to travel."""
        record, self.record = self.record, None
        if self._own_limit is not None:
            self.optimizer.clip_grad, self._own_limit = self._own_limit, None  # type: ignore[attr-defined]
        if record is None:
            self.probe.clear()
            return None
        numbers: dict[str, Tensor | Floats] = {}
        if record.edited and taken and not self.is_engine:
            record.total_clipped = torch.linalg.vector_norm(self.meter.read().norms)
        if self.probe.indices and taken:
            numbers["moved"], numbers["before"] = self.probe.measure()
            numbers["measured"] = np.array(self.probe.indices, dtype=np.float64)
        self.probe.clear()
        if not record.lagged and record.snapshot is not None:
            host = {name: to_host(values) for name, values in numbers.items()}
            return self._result(
                record.snapshot, host, float(record.factor), float(record.total_clipped), record.scalars
            )
        self.pending = Pending.of(record, numbers, private.learning_rate(self.optimizer))
        return None

    def peek(self) -> GradientSnapshot | None:
        """The step before, where `arrive` has yet to give it out; waits until its numbers are there."""
        pending = self.pending
        return None if pending is None else self._snapshot(pending.arrive(), pending.where, pending.lr)

    def arrive(self) -> StepResult | None:
        """The result of the step before, where its numbers had to travel; waits until they are there."""
        pending, self.pending = self.pending, None
        if pending is None:
            return None
        numbers = pending.arrive()
        snapshot = self._snapshot(numbers, pending.where, pending.lr)
        factor, total = float(numbers["factor"][0]), float(numbers["total_clipped"][0])
        return self._result(snapshot, numbers, factor, total, pending.scalars)

    def leave(self) -> None:
        """The step under way is not taken, or is taken no further: undoes what waits for its end."""
        self.stepping, self.evaluations = False, 0
        if self._told_to_skip:  # else the attributes are a GradScaler's
            private.forget_skip(self.optimizer)
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

    def state_dict(self) -> dict[str, Any]:
        """What decides when to look at what, and a step that is not judged yet."""
        optional = {"ratios": self._ratios, "weights": self._weights}
        return {
            "weights_due": self._weights_due,
            "next": self.probe.next,
            "names": list(self.meter.layout.names),
            "arrays": {name: array.tolist() for name, array in optional.items() if array is not None},
            "pending": None if self.pending is None else self.pending.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken; starts anew if the parameters are not the same."""
        if state.get("names") != list(self.meter.layout.names):
            return
        self._weights_due, self.probe.next = state["weights_due"], state["next"]
        arrays = {name: np.array(values, dtype=np.float64) for name, values in state["arrays"].items()}
        self._ratios, self._weights = arrays.get("ratios"), arrays.get("weights")
        self.pending = None if state["pending"] is None else Pending.from_state_dict(state["pending"])

    def _snapshot(self, numbers: dict[str, Floats], where: dict[str, int], lr: float | None) -> GradientSnapshot:
        self._weights = numbers.get("weights", self._weights)
        max_abs, loss, loss_scale = (
            float(numbers[name][0]) if name in numbers else None for name in ("max_abs", "loss", "loss_scale")
        )
        return GradientSnapshot(
            layout=self.meter.layout,
            norms=numbers["norms"],
            present=numbers["present"] > 0,
            weight_norms=self._weights,
            update_ratios=self._ratios,
            lr=lr,
            max_abs=max_abs,
            loss=loss,
            loss_scale=loss_scale,
            **where,
        )

    def _result(
        self,
        snapshot: GradientSnapshot,
        numbers: dict[str, Floats],
        factor: float,
        total: float,
        scalars: dict[str, float],
    ) -> StepResult:
        moved = weights = self._ratios = None
        if "moved" in numbers:
            moved, weights = self._spread("moved", numbers), self._spread("before", numbers)
            self._ratios = np.divide(moved, weights, out=np.full_like(moved, np.nan), where=weights > 0)
        return StepResult(self, snapshot, moved, weights, factor, total, scalars)

    def _spread(self, name: str, numbers: dict[str, Floats]) -> Floats:
        """[P] from what was measured of some parameters; NaN elsewhere."""
        full = np.full(len(self.meter.parameters), np.nan)
        full[numbers["measured"].astype(np.intp)] = numbers[name]
        return full

    def _trained(self) -> list[Tensor]:
        """What the optimizer holds and is not frozen."""
        return [p for group in zero.groups(self.optimizer) for p in group if p.requires_grad]

    def _begin(self) -> None:
        self.stepping = True
        if isinstance(self.optimizer, LBFGS):
            self._rollback = Rollback(self.optimizer)
        for call in self.on_begin:
            call()

    @torch.no_grad()
    def _taken(self) -> None:
        self.leave()
        for call in self.on_taken:
            call()
