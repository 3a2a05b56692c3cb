# SPDX-License-Identifier: Apache-2.0
"""Is the loss getting anywhere? The question that tells a sick gradient from a finished training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import isfinite, nan
from statistics import median, quantiles
from typing import Any

from lightning_gradwatch.rules.levels import LEAST_RISE, climb, finite, noise
from lightning_gradwatch.rules.text import number

Reduce = Callable[[list[float]], list[float]]

_LEAST_DROP = 0.03  # of the level; smaller changes are no progress, however sure
_AT_ONCE = 10  # steps within which a loss that has jumped may stay where it is
_GOES_ON, _STAYS = 1.2, 0.8  # of the height of the jump
_BOTTOMLESS = 100.0  # times the losses of the start
_CONVERGED = 0.05  # of the level at the start
_FEWEST = 3  # losses that make a median


class LossHistory:
    """The losses of one optimizer, one per step, and what rules ask about them.

    A loss that may be negative has no level to take a share of. There the shares are of the spread of all losses
    kept, from their first to their last decile. Both are scale-free, and a constant added to such a loss changes
    nothing.

    Args:
        window: Optimizer steps to look back. Answers compare this many with as many before.
        reduce: Mean over ranks, number by number, of a list that has the same length on all ranks. It is called at most
            once per step and only when a rule asks; rules ask only after the gradients, which are the same on all
            ranks, gave reason to. So all ranks ask together.
    """

    def __init__(self, window: int = 50, reduce: Reduce | None = None) -> None:
        self.window = window
        self._reduce = reduce
        self._start: list[float] = []
        self._recent: deque[float] = deque(maxlen=2 * window)
        self._shared: tuple[list[float], list[float]] | None = None

    def update(self, loss: float | None) -> None:
        """Takes the loss of the step that the rules are about to judge; None, NaN and inf mean that it is unknown."""
        value = nan if loss is None else float(loss)
        if len(self._start) < max(_FEWEST, self.window // 5):
            self._start.append(value)
        self._recent.append(value)
        self._shared = None

    def improved(self) -> bool | None:
        """Whether the loss fell by more than its noise and 3 % from one window to the next; None if that is unknown.

        From one window on, two halves of what is there are compared.
        """
        halves = self._halves()
        return None if halves is None else self._fell(*halves)

    def converged(self) -> bool | None:
        """Whether the loss is at most 5 % of that of the first steps; None if that is unknown or it may be negative."""
        start, recent = self._view()
        now = finite(recent[-self.window :])
        if min(len(start), len(now)) < _FEWEST or min(start + now) < 0:
            return None
        # The first loss as well: a training that blows up in its first steps has not converged by coming down again.
        return median(now) <= _CONVERGED * min(start[0], median(start))

    def at_start(self) -> bool | None:
        """Whether the loss is still where it began: not below the first steps by 3 % and its noise; None if unknown."""
        start, recent = self._view()
        now = finite(recent[-self.window :])
        if min(len(start), len(now)) < _FEWEST or len(recent) < self.window:
            return None
        return not self._fell(start, now)

    def always_zero(self) -> bool:
        """Whether the loss is known, and was exactly 0 at the start as it is now: nothing was ever asked for."""
        start, recent = self._view()
        known = finite(recent)
        return bool(start and known) and not any(start) and not any(known)

    def share_of_start(self) -> float | None:
        """The loss of the last fifth of a window over the very first; None if unknown or it may be negative."""
        start, recent = self._view()
        now = finite(recent[-max(_FEWEST, self.window // 5) :])
        known = len(now) >= _FEWEST and bool(start) and start[0] > 0 and min(now) >= 0
        return median(now) / start[0] if known else None

    def stuck(self) -> bool | None:
        """Whether there is neither progress nor anything left to gain; None if that is unknown."""
        improved = self.improved()
        return None if improved is None else not improved and not self.converged()

    def rising(self, steps: int) -> bool | None:
        """Whether the last `steps` losses lie 20 %, and more than noise, above the window before; None if unknown."""
        recent = self._view()[1]
        steps = min(steps, self.window)
        before, after = finite(recent[:-steps][-self.window :]), finite(recent[-steps:])
        return self._rose(before, after) if min(len(before), len(after)) >= _FEWEST else None

    def above(self, earlier: list[float], steps: int) -> bool | None:
        """The same for the last `steps` losses and any `earlier` ones of this rank, be it a single one."""
        before = finite(earlier if self._reduce is None or not earlier else self._reduce(earlier))
        after = finite(self._view()[1][-steps:])
        return self._rose(before, after) if before and len(after) >= _FEWEST else None

    def below(self, earlier: list[float], steps: int) -> bool:
        """Whether the last `steps` losses lie 3 %, and more than noise, below `earlier` ones of this rank."""
        before = finite(earlier if self._reduce is None or not earlier else self._reduce(earlier))
        after = finite(self._view()[1][-steps:])
        return bool(before) and len(after) >= _FEWEST and self._fell(before, after)

    def last(self, steps: int) -> list[float]:
        """This rank's losses of the last `steps` steps, the newest last; NaN where unknown."""
        return list(self._recent)[-steps:] if steps > 0 else []

    def climb(self) -> float | None:
        """How far the loss has climbed above its start, as a share of its level; 0 if not, None if unknown.

        Medians of five blocks per window are compared. The last must lie above the start, and above the lowest, by 20 %
        and more than noise; four of the last five steps from block to block must go up, and without the largest of them
        it must be a rise still: so a curriculum that jumps is none.
        """
        start, recent = self._view()
        return climb(start, recent, max(_FEWEST, self.window // 5), self._scale) if len(start) >= _FEWEST else None

    def lasting(self, steps: int) -> bool:
        """Whether a loss that jumped at the first of the last `steps` went on from there, or stays up for ten steps.

        Another task or data set makes it jump as well, once, and then it falls. To be asked where `rising` says yes.
        """
        recent = self._view()[1]
        steps = min(steps, self.window)
        before, (first, *later) = finite(recent[:-steps][-self.window :]), finite(recent[-steps:]) or [nan]
        if not before or not later:
            return True
        height = first - median(before)
        least = _GOES_ON if steps <= _AT_ONCE else _STAYS
        return median(later[-_AT_ONCE:]) - median(before) > least * height

    def bottomless(self) -> bool:
        """Whether the loss has fallen below 0 by 100 times what it started from: no training needs that."""
        start, recent = self._view()
        now = finite(recent[-_FEWEST:])
        return bool(start and now) and median(now) < -_BOTTOMLESS * max(map(abs, start))

    def jump(self) -> tuple[float, float] | None:
        """This rank's median of the window before this step, and its loss at this step. For texts only."""
        *before, now = self._recent or [nan]
        known = finite(before[-self.window :])
        return (median(known), now) if known and isfinite(now) else None

    def line(self) -> str:
        """The answer of `improved` as a line of evidence. To be asked only where `improved` may be asked."""
        halves = self._halves()
        if halves is None:
            return "loss: progress not known"
        before, after = halves
        change = f"({number(median(before), 4)} -> {number(median(after), 4)})"
        if self._fell(before, after):
            return f"loss: improving {change}"
        if self._fell(after, before):
            return f"loss: rising {change}"
        return f"loss: no progress in {len(self._recent) // 2} steps {change}"

    def share(self) -> None:
        """Replaces the losses by their means over all ranks, which answer alike; all ranks must come here."""
        if self._reduce is not None and self._recent:
            values = self._reduce([*self._start, *self._recent])
            split = len(self._start)
            self._start, self._recent = values[:split], deque(values[split:], maxlen=2 * self.window)

    def state_dict(self) -> dict[str, Any]:
        """The losses that are kept."""
        return {"start": list(self._start), "recent": list(self._recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._start = list(state["start"])
        self._recent = deque(state["recent"], maxlen=2 * self.window)
        self._shared = None

    def _view(self) -> tuple[list[float], list[float]]:
        """The finite losses of the start, and the recent ones in their places, over all ranks."""
        if self._shared is None:
            values = [*self._start, *self._recent]
            values = values if self._reduce is None else self._reduce(values)
            split = len(self._start)
            self._shared = finite(values[:split]), values[split:]
        return self._shared

    def _halves(self) -> tuple[list[float], list[float]] | None:
        recent = self._view()[1]
        middle = len(recent) // 2
        before, after = finite(recent[:middle]), finite(recent[middle:])
        enough = max(_FEWEST, self.window // 4)
        return (before, after) if len(recent) >= self.window and min(len(before), len(after)) >= enough else None

    def _fell(self, before: list[float], after: list[float]) -> bool:
        return median(before) - median(after) > max(noise(before, after), _LEAST_DROP * self._scale(before))

    def _rose(self, before: list[float], after: list[float]) -> bool:
        return median(after) - median(before) > max(noise(before, after), LEAST_RISE * self._scale(before))

    def _scale(self, before: list[float]) -> float:
        start, recent = self._view()
        seen = start + finite(recent)
        if min(seen) >= 0:
            return median(before)
        deciles = quantiles(seen, n=10)
        return deciles[-1] - deciles[0]
