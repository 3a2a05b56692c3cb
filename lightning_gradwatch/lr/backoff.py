# SPDX-License-Identifier: Apache-2.0
"""How the learning rate gives way after an event and comes back, and how a schedule joins in."""

from __future__ import annotations

from typing import Any

MEMORY_STEPS = 2000
"""A further event within so many steps is a relapse; so many quiet steps forgive."""

RELAPSE = 0.9
"""Each relapse lowers the ceiling by this factor."""


class BackOff:
    """A multiplier in (0, 1] for the learning rate, moved by events, one `step` per optimizer step.

    An event multiplies it by `backoff`; it holds for `hold_steps` and then climbs back in `rewarm_steps` at a constant
    ratio per step. Events within `cooldown_steps` of the last one that counted are the same trouble and change nothing.
    Harm that was kept from the weights, or a single spike, counts only from the `patience`-th step in a row on: a bad
    batch says nothing about the learning rate, and a slower run would only lose time.

    Args:
        backoff: Factor of one event, in (0, 1).
        cooldown_steps: Optimizer steps.
        hold_steps: Optimizer steps.
        rewarm_steps: Optimizer steps.
        min_scale: The multiplier goes no lower, in (0, 1].
        patience: Optimizer steps in a row, at least 1.

    Attributes:
        scale: The multiplier in force.
    """

    def __init__(
        self,
        backoff: float,
        cooldown_steps: int,
        hold_steps: int,
        rewarm_steps: int,
        min_scale: float,
        patience: int = 1,
    ) -> None:
        self._backoff, self._min_scale = backoff, min_scale
        self._cooldown, self._hold, self._rewarm = cooldown_steps, hold_steps, rewarm_steps
        self.scale = 1.0
        self._start = 1.0
        self._top = 1.0
        self._ceiling = 1.0
        self._age: int | None = None
        self._patience = patience
        self._in_a_row = 0  # steps up to the last one whose harm was prevented
        self._prevented = False  # whether this step's was

    def prevent(self) -> bool:
        """An event whose harm was kept from the weights, or an outlier. Returns whether it counted."""
        self._in_a_row += not self._prevented
        self._prevented = True
        return self._in_a_row >= self._patience and self.trigger()

    def trigger(self) -> bool:
        """An event. Returns whether it counted."""
        if self._age is not None and self._age < self._cooldown:
            return False
        if self._age is not None:
            self._ceiling = max(self._ceiling * RELAPSE, self._min_scale)
        self._start = self.scale = max(self.scale * self._backoff, self._min_scale)
        self._age = 0
        return True

    def retreat(self, factor: float, times: int) -> None:
        """The run went back to where this was, for the `times`-th time: as many factors on the multiplier.

        A rate that ruined the run twice is not tried again: then the multiplier stays where it is now, for good.
        """
        self._start = self.scale = max(self.scale * factor**times, self._min_scale)
        if times > 1 or self._age is not None:
            self._top = self._ceiling = self.scale
        self._age = 0

    def step(self) -> float:
        """One optimizer step later; the multiplier for it."""
        self._in_a_row *= self._prevented
        self._prevented = False
        if self._age is None:
            return self.scale
        age, self._age = self._age, self._age + 1
        self.scale = self._at(age)
        if age >= MEMORY_STEPS + self._rewarm:
            self._age, self._ceiling, self.scale = None, self._top, self._top
        return self.scale

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        row = {"in_a_row": self._in_a_row, "prevented": self._prevented}
        state = {"scale": self.scale, "start": self._start, "ceiling": self._ceiling, "age": self._age, **row}
        return {**state, "top": self._top}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self.scale, self._start = state["scale"], state["start"]
        self._ceiling, self._age = state["ceiling"], state["age"]
        # Not in the checkpoints of the first development versions.
        self._in_a_row, self._prevented = state.get("in_a_row", 0), state.get("prevented", False)
        self._top = state.get("top", 1.0)

    def _at(self, age: int) -> float:
        """The multiplier `age` steps after the event."""
        if age < self._hold:
            return self._start
        if age < self._hold + self._rewarm:
            return _between(self._start, max(self._ceiling, self._start), (age - self._hold + 1) / self._rewarm)
        if age < MEMORY_STEPS:
            return max(self._ceiling, self._start)
        return _between(max(self._ceiling, self._start), self._top, (age - MEMORY_STEPS + 1) / max(self._rewarm, 1))


class Scale:
    """The whole multiplier of one optimizer's learning rate: the schedule times the back-off.

    Args:
        gamma: Factor of the schedule, or None.
        every: When it applies again: ``"epoch"``, or a number of optimizer steps.
        back_off: The other half.
    """

    def __init__(self, gamma: float | None, every: str | int, back_off: BackOff) -> None:
        self._gamma, self._every = gamma, every
        self.back_off = back_off
        self._steps = 0
        self.value = 1.0

    def step(self, epoch: int) -> float:
        """The multiplier for the next optimizer step, in an epoch counted from 0."""
        times = epoch if isinstance(self._every, str) else self._steps // self._every
        self._steps += 1
        scheduled = 1.0 if self._gamma is None else self._gamma**times
        self.value = scheduled * self.back_off.step()
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        return {"steps": self._steps, "value": self.value, "back_off": self.back_off.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self._steps, self.value = state["steps"], state["value"]
        self.back_off.load_state_dict(state["back_off"])


def _between(low: float, high: float, share: float) -> float:
    """Geometrically between two multipliers; `share` in [0, 1]."""
    return float(low * (high / low) ** min(share, 1.0))
