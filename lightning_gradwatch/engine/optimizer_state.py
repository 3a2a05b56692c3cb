# SPDX-License-Identifier: Apache-2.0
"""The numbers of one optimizer: what is measured at a step, and what the host knows of the step before."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_gradwatch.compat import deepspeed, lightning
from lightning_gradwatch.engine.deferred import Deferred
from lightning_gradwatch.engine.step import StepRecord, StepResult, Wanted
from lightning_gradwatch.lr.known import searches
from lightning_gradwatch.measurement.between import Between
from lightning_gradwatch.measurement.meter import Meter, Reading, to_host
from lightning_gradwatch.measurement.transfer import send
from lightning_gradwatch.measurement.updates import UpdateProbe
from lightning_gradwatch.snapshot import Bools, Floats, GradientSnapshot

WEIGHTS_EVERY = 10
"""Steps between two looks at the norms of the weights: they change slowly, and cost as much as the gradients'."""

SAMPLE, SAMPLE_BYTES = 100, 4 * 2**20
"""Parameters, and bytes of weights, that a sample compares at most, which the detectors take every few steps."""


class OptimizerState:
    """Measures one optimizer; `OptimizerHooks` adds its steps.

    Attributes:
        optimizer: As the hook receives it.
        index: Its place in ``trainer.optimizers``.
        is_engine: Whether DeepSpeed steps the optimizer.
        meter: Measures its gradients.
        probe: Measures its updates.
        between: Compares what a step left with what the next one finds.
        groups: The parameters of each parameter group, as indices.
        hooked: Whether it is known when a step begins and ends; else the end of the batch ends it.
        searches: Whether it evaluates its gradients several times in one step, as far as is known.
        pending: The step before, where its numbers are still on their way to the host.
    """

    def __init__(self, optimizer: Optimizer, index: int, names: dict[int, str], module: Any) -> None:
        self.optimizer, self.index = optimizer, index
        self.is_engine = deepspeed.is_engine(optimizer)
        self.searches = searches(optimizer)
        self.hooked = False
        self._names, self._module = names, module
        self.pending: Deferred | None = None
        self.renew()

    @property
    def on_cuda(self) -> bool:
        """Whether reading a number would make the host wait."""
        return bool(self.meter.parameters) and self.meter.parameters[0].is_cuda

    def renew(self) -> None:
        """Starts over with the parameters that the optimizer holds now, in the order of the module."""
        self._met, self._group_count = self._trained(), len(self.optimizer.param_groups)
        parameters = list(self._met)
        order = {key: i for i, key in enumerate(self._names)}
        parameters.sort(key=lambda p: order.get(id(p), len(order)))
        unnamed = (f"parameter_{i}" for i in range(len(parameters)))
        self.meter = Meter([(self._names.get(id(p)) or next(unnamed), p) for p in parameters], self._module)
        self.probe = UpdateProbe(self.meter)
        self.between = Between(self.meter.parameters)
        place = {id(p): i for i, p in enumerate(parameters)}
        self.groups = [
            np.array([place[id(p)] for p in group if id(p) in place], dtype=np.intp)
            for group in deepspeed.groups(self.optimizer)
        ]
        self.forget()

    def weigh_next(self) -> None:
        """Has the norms of the weights measured at the next step."""
        self._weights_due = 0

    def forget(self) -> None:
        """The weights are other ones now: what was measured of them says nothing any more."""
        self.probe.clear()
        self.between.clear()
        self._ratios: Floats | None = None
        self._weights: Floats | None = None
        self._weights_due = 0

    def changed(self) -> bool:
        """Whether parameters or groups were added, or parameters frozen or unfrozen since."""
        now, groups = self._trained(), self.optimizer.param_groups
        same = len(now) == len(self._met) and len(groups) == self._group_count
        return not (same and all(map(operator.is_, now, self._met)))

    def read(
        self, trainer: Any, losses: list[Tensor], *, max_abs: bool
    ) -> tuple[Reading, Tensor | float | None, dict[str, Tensor | Floats | Bools]]:
        """This step's gradients, what they are still multiplied by, and all numbers; on CUDA without waiting."""
        scale, loss_scale = self._scales(trainer)
        reading = self.meter.read(scale=scale, max_abs=max_abs)
        numbers: dict[str, Tensor | Floats | Bools] = {"norms": reading.norms, "present": reading.present}
        if reading.max_abs is not None:
            numbers["max_abs"] = reading.max_abs
        if losses:
            numbers["loss"] = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        if loss_scale is not None:
            numbers["loss_scale"] = torch.as_tensor(loss_scale)
        self._weights_due -= 1
        if self._weights_due < 0:
            self._weights_due = WEIGHTS_EVERY - 1
            numbers["weights"] = self.meter.weight_norms()
        since = self.between.found()
        if since is not None:
            numbers["between"], numbers["between_of"] = since, np.array(self.between.indices, dtype=np.float64)
        return reading, scale, numbers

    def snapshot(self, record: StepRecord) -> GradientSnapshot:
        """This step's snapshot, now; waits for the device."""
        numbers = _at_hand(record.numbers, record.reading.norms.device)
        snapshot = self._snapshot(numbers, record.where, lightning.learning_rate(self.optimizer))
        return self.meter.confirm(snapshot, record.reading, record.scale)

    def arm(self, wanted: Iterable[Wanted]) -> None:
        """Right before the step: copies the weights whose relative update somebody wants to know."""
        requests = [request for request in wanted if request is not None]
        if not requests:
            return
        named = sorted({i for request in requests if not isinstance(request, str) for i in request})
        if "all" in requests:
            self.probe.arm()
        elif "sample" in requests:  # before the named ones, which may be the same at each step and hide all others
            self.probe.arm(most=SAMPLE, most_bytes=SAMPLE_BYTES)
        elif named:
            self.probe.arm(named)
        if self.meter.whole and not self.is_engine:
            self.between.before(self.probe.indices)

    def settled(self, record: StepRecord | None, *, taken: bool) -> StepResult | None:
        """The result of a step that is over; None if there is none, or its numbers still have to travel."""
        numbers: dict[str, Tensor | Floats] = {}
        if record is not None and self.probe.indices and taken:
            weights = record.numbers.get("weights")
            numbers["moved"], numbers["before"] = self.probe.measure(weights if isinstance(weights, Tensor) else None)
            numbers["measured"] = np.array(self.probe.indices, dtype=np.float64)
            self.between.left()
        self.probe.clear()
        if record is None:
            return None
        if record.lagged or record.snapshot is None:
            self.pending = Deferred.of(record, numbers, lightning.learning_rate(self.optimizer))
            return None
        host = {name: np.atleast_1d(value) for name, value in _at_hand(numbers, record.reading.norms.device).items()}
        result = self._result(record.snapshot, host, float(record.factor), float(record.total_clipped), record.scalars)
        result.bound_factor, result.skipped = float(record.bound_factor), record.skipped
        return result

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
        result = self._result(snapshot, numbers, factor, total, pending.scalars)
        if "bound_factor" in numbers:  # not in the checkpoints of the first versions
            result.bound_factor = float(numbers["bound_factor"][0])
            result.skipped = bool(numbers["guarded"][0]) and not math.isfinite(snapshot.total)
        return result

    def state_dict(self) -> dict[str, Any]:
        """What decides when to look at what, and a step that is not judged yet."""
        self.between.clear()  # no checkpoint keeps its weights, so a run that goes on must not have them either
        optional = {"ratios": self._ratios, "weights": self._weights}
        return {
            "weights_due": self._weights_due,
            "next": self.probe.next,
            "searches": self.searches,
            "names": list(self.meter.layout.names),
            "arrays": {name: array.tolist() for name, array in optional.items() if array is not None},
            "pending": None if self.pending is None else self.pending.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken; starts anew if the parameters are not the same."""
        self.searches |= state.get("searches", False)
        if state.get("names") != list(self.meter.layout.names):
            return
        self._weights_due, self.probe.next = state["weights_due"], state["next"]
        arrays = {name: np.array(values, dtype=np.float64) for name, values in state["arrays"].items()}
        self._ratios, self._weights = arrays.get("ratios"), arrays.get("weights")
        self.pending = None if state["pending"] is None else Deferred.from_state_dict(state["pending"])

    def _snapshot(self, numbers: Mapping[str, Any], where: dict[str, int], lr: float | None) -> GradientSnapshot:
        self._weights = numbers.get("weights", self._weights)
        since = numbers["between"].reshape(2, -1) if "between" in numbers else None
        return GradientSnapshot(
            layout=self.meter.layout,
            norms=numbers["norms"],
            present=numbers["present"].astype(bool, copy=False),
            weight_norms=self._weights,
            update_ratios=self._ratios,
            lr=lr,
            max_abs=_single(numbers.get("max_abs")),
            loss=_single(numbers.get("loss")),
            loss_scale=_single(numbers.get("loss_scale")),
            undone=None if since is None else self._spread(since[0], numbers["between_of"]),
            moved_since=None if since is None else self._spread(since[1], numbers["between_of"]),
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
            moved, weights = (self._spread(numbers[what], numbers["measured"]) for what in ("moved", "before"))
            self._ratios = np.divide(moved, weights, out=np.full_like(moved, np.nan), where=weights > 0)
        return StepResult(self, snapshot, moved, weights, factor, total, scalars)

    def _spread(self, values: Floats, of: Floats) -> Floats:
        """[P] from the values of some parameters; NaN elsewhere."""
        full = np.full(len(self.meter.parameters), np.nan)
        full[of.astype(np.intp)] = values
        return full

    def _scales(self, trainer: Any) -> tuple[Tensor | float | None, Tensor | float | None]:
        """What the gradients at the hook are multiplied by, and what the loss was."""
        if self.is_engine:
            scale = deepspeed.loss_scale(self.optimizer)
            return scale, scale
        if lightning.scaler_of(trainer) is None:
            return None, None
        return lightning.gradient_scale(trainer, self.optimizer), lightning.loss_scale(trainer)

    def _trained(self) -> list[Tensor]:
        """What the optimizer holds and is not frozen."""
        if self.is_engine:
            return [p for group in deepspeed.groups(self.optimizer) for p in group if p.requires_grad]
        return [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]


def _at_hand(
    numbers: Mapping[str, Tensor | Floats | Bools], device: torch.device
) -> Mapping[str, Floats | Bools | float]:
    """On the host, now. On a CPU a single number stays one, which spares numpy."""
    if device.type == "cpu":
        return {name: _here(values) for name, values in numbers.items()}
    return _from_device(numbers, device)


def _from_device(numbers: Mapping[str, Tensor | Floats | Bools], device: torch.device) -> dict[str, Floats]:
    """Each flat. In one copy, so that the host waits once."""
    transfer, near = send(numbers, device)
    return near | transfer.arrive()


def _here(values: Tensor | Floats | Bools) -> Floats | Bools | float:
    if not isinstance(values, Tensor):
        return values
    return to_host(values) if values.ndim else float(values)


def _single(values: Floats | float | None) -> float | None:
    return values if values is None or isinstance(values, float) else float(values[0])
