# SPDX-License-Identifier: Apache-2.0
"""A norm far above what is normal for this run."""

from __future__ import annotations

from math import exp, inf
from statistics import median
from typing import Any

from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rules.baseline import RESEED, Baseline
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.rules.rule import blame, event, usable
from lightning_gradwatch.rules.text import number, where
from lightning_gradwatch.snapshot import GradientSnapshot

_FEWEST = 3  # norms before which nothing is known
_MANY = 3  # spikes within the window that no longer are single outliers
_HUGE = 1e4  # times the usual norm, now and at the start: no batch does that to a sound run
_START = 10  # norms that make the level at the start
_ISOLATED, _REPEATED, _SHIFT = 8, 9, 27  # rows of the remedy table


class Spike:
    """Finds single steps whose norm is far above the baseline, one event per step.

    The limit is the largest of `factor` times the median, `z` robust standard deviations of the log norm above it,
    and the level that one step in ten of the whole run has reached. Before `warmup_steps` norms are known it is the
    median times ``factor**2``, from the third norm on. Five spikes in a row are a new level (`level_shift`).

    Args:
        losses: Asked when spikes repeat: a loss that rises and does not come down again makes an alarm of it.
        window: Norms that make the median.
        warmup_steps: Norms before which only the emergency limit holds.
        factor: Times the median, above 1.
        z: Robust standard deviations of the log norm.

    Attributes:
        baseline: What is normal.
    """

    def __init__(
        self, losses: LossHistory, *, window: int = 50, warmup_steps: int = 20, factor: float = 10.0, z: float = 6.0
    ) -> None:
        self.warmup_steps = warmup_steps
        self.factor = factor
        self.z = z
        self.baseline = Baseline(window)
        self._losses = losses
        self._steps = 0
        self._start: list[float] = []
        self._spikes: list[int] = []
        self._in_a_row = 0
        self._lr: float | None = None

    @property
    def limit(self) -> float:
        """The largest norm that is no spike at the coming step, from past norms only; inf while nothing is known."""
        return self._limit()[0]

    def judge(self, snapshot: GradientSnapshot) -> list[GradientEvent]:
        """Compares this step's norm with the baseline, then takes it in."""
        norm = usable(snapshot)
        if norm is None:
            return []
        self._steps += 1
        if len(self._start) < _START:
            self._start.append(norm)
        before, self._lr = self._lr, snapshot.lr
        limit = inf  # the floor is cheap and at most the limit; most steps stay below it
        if norm <= self._floor() or norm <= (limit := self.limit):
            self._in_a_row = 0
            self.baseline.update(norm)
            return []
        events = [self._spike(snapshot, norm, before)]
        self.baseline.update(norm, limit)
        self._in_a_row += 1
        if self._in_a_row >= RESEED:
            events.append(self._level_shift(snapshot, limit))
        return events

    def reseed(self) -> None:
        """Takes the last 5 norms for the new normal."""
        self.baseline.reseed()
        self._in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        """Baseline and recent spikes."""
        counts = {"steps": self._steps, "spikes": list(self._spikes), "in_a_row": self._in_a_row, "lr": self._lr}
        return {"baseline": self.baseline.state_dict(), "start": list(self._start), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self.baseline.load_state_dict(state["baseline"])
        self._start = list(state.get("start", ()))
        self._steps, self._spikes = state["steps"], list(state["spikes"])
        self._in_a_row, self._lr = state["in_a_row"], state["lr"]

    def _floor(self) -> float:
        if self.baseline.count < _FEWEST:
            return inf
        early = self.baseline.count < self.warmup_steps
        return (self.factor**2 if early else self.factor) * self.baseline.median

    def _limit(self) -> tuple[float, str]:
        """The limit and where it comes from."""
        known, floor = self.baseline, self._floor()
        steps = f"{min(known.count, known.window)} steps"
        if known.count < self.warmup_steps:
            return floor, f"{number(self.factor**2)}x the median of the first {steps}"
        return max(
            (floor, f"{number(self.factor)}x the median of {steps}"),
            (known.median * exp(self.z * known.spread), f"{number(self.z)} deviations above the median of {steps}"),
            (known.q90, "reached by one step in ten so far"),
            key=lambda bound: bound[0],
        )

    def _spike(self, snapshot: GradientSnapshot, norm: float, lr: float | None) -> GradientEvent:
        limit, basis = self._limit()
        self._spikes = [step for step in self._spikes if step > self._steps - self.baseline.window] + [self._steps]
        since = self._steps - self._spikes[0] + 1
        harm = len(self._spikes) >= _MANY and self._losses.rising(since) and self._losses.lasting(since)
        # Of a training that has converged, new data may ask as much as at the start.
        usual = max(self.baseline.median, self.baseline.q90 / self.factor, median(self._start))
        parts = blame(snapshot)
        return event(
            snapshot,
            EventKind.SPIKE,
            Severity.ALARM if harm or norm > _HUGE * usual else Severity.WARNING,
            _REPEATED if harm else _ISOLATED,
            layers=[layer for layer, _ in parts],
            value=norm,
            limit=limit,
            message=f"grad norm {number(norm)}, limit {number(limit)} ({basis})\n{where(parts)}",
            cause=None if harm else self._outlier(snapshot.lr, lr),
        )

    def _outlier(self, lr: float | None, before: float | None) -> str:
        jump = self._losses.jump()
        signs = [] if jump is None else [f"loss {number(jump[0])} -> {number(jump[1])}"]
        if lr is not None and before is not None:
            signs.append("learning rate " + ("rising" if lr > before else "steady"))
        return "outlier batch" + (f" ({', '.join(signs)})" if signs else "")

    def _level_shift(self, snapshot: GradientSnapshot, limit: float) -> GradientEvent:
        former = self.baseline.median
        self.reseed()
        now = self.baseline.median
        return event(
            snapshot,
            EventKind.LEVEL_SHIFT,
            Severity.INFO,
            _SHIFT,
            layers=(),
            value=now,
            limit=limit,
            message=f"grad norm {number(now / former)}x its former median for {RESEED} steps: a new level",
        )
