# SPDX-License-Identifier: Apache-2.0
"""What the user reads on the screen: each cause once in full, then counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from lightning_gradwatch.events import GradientEvent, Severity
from lightning_gradwatch.measurement.meter import Meter
from lightning_gradwatch.output.failsafe import FailSafe, logger
from lightning_gradwatch.output.screen import ScreenHandler

_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ALARM: logging.ERROR}

QUIET_STEPS = 500
"""After so many steps without it, a cause is news again; from then on after twice as many, and so on.

What keeps coming back is no news: in a million steps a cause is told at most eleven times.
"""


class Watched(Protocol):
    """An optimizer and what measures it."""

    optimizer: Any
    meter: Meter


class Console:
    """Decides which events are worth a message: on every rank alike, while only rank zero prints."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._last: dict[tuple[object, ...], int] = {}
        self._quiet: dict[tuple[object, ...], int] = {}
        self._shield = FailSafe()

    def is_news(self, event: GradientEvent, *, prints: bool, teller: Hashable = None, each_time: bool = False) -> bool:
        """Prints an event, or counts it.

        Args:
            event: What was found.
            prints: Whether this is rank zero.
            teller: Who tells of it, where that is a cause of its own; None for all rules together.
            each_time: Whether it is news whatever was said before.

        Returns:
            Whether it is the first of its cause, or the first after a long silence.
        """
        key = (teller, event.kind, event.severity, event.optimizer)
        quiet = self._quiet.setdefault(key, QUIET_STEPS)
        if event.step - self._last.get(key, event.step) > quiet:
            self._seen[key], self._quiet[key] = 0, 2 * quiet
        self._last[key] = event.step
        self._seen[key] += 1
        count = 1 if each_time else self._seen[key]
        if prints:
            self._shield.run("events", "printing events failed", _print, event, count)
        return count == 1


def _print(event: GradientEvent, count: int) -> None:
    if count == 1:
        logger.log(_LEVELS[event.severity], "%s", str(event))
    elif count == 10 ** (len(str(count)) - 1):
        headline, *_ = str(event).splitlines()
        logger.log(
            _LEVELS[event.severity], "%s (%d of this kind so far; they are counted, not printed)", headline, count
        )


def ensure_visible() -> None:
    """Lets the messages reach the screen where the user has not configured logging, as Lightning does for its own."""
    if not logger.handlers and not logging.getLogger().handlers:
        logger.addHandler(ScreenHandler())
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def tell(trainer: Any, line: str) -> None:
    """One line, from rank zero."""
    if trainer.is_global_zero:
        FailSafe().run("line", f"saying {line!r} failed", logger.info, "%s", line)


def start_line(trainer: Any, watches: Sequence[Watched], acts: Sequence[str]) -> str:
    """What is watched, where, and what will act.

    Args:
        trainer: The Trainer.
        watches: One for each optimizer.
        acts: What each callback will do, empty for those that only watch.
    """
    optimizers = ", ".join(
        f"{_count(len(watch.meter.layout.layers), 'layer')} ({_count(len(watch.meter.layout.names), 'tensor')}) under"
        f" {type(watch.optimizer).__name__}"
        for watch in watches
    )
    phrases = dict.fromkeys(phrase for act in acts for phrase in act.split("; ") if phrase)
    strategy = type(trainer.strategy).__name__.removesuffix("Strategy")
    watching = f"[gradwatch] watching {optimizers}, {strategy}, precision {trainer.precision}"
    return f"{watching}\n  acts:   {'; '.join(phrases) or 'nothing, it only watches'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def summary_line(
    counts: Iterable[Mapping[str, int]],
    steps: int,
    touched: Sequence[str] = (),
    advice: Sequence[str] = (),
    *,
    saw_gradient: bool = True,
) -> str:
    """The end of a run: how many steps were seen, what we changed, how many events of each kind, what to set.

    Args:
        counts: Events by kind, of each callback.
        steps: Optimizer steps seen.
        touched: A phrase for each kind of change; "nothing to report" is said only where there is none.
        saw_gradient: Whether any step had a gradient.
        advice: Settings that would have made the changes unnecessary.
    """
    total: dict[str, int] = {}
    for found in counts:
        for kind, count in found.items():
            total[kind] = max(total.get(kind, 0), count)  # two callbacks may have found the same
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(total.items()))
    listed = "; ".join([*([listed] if listed else []), *touched]) or "nothing to report"
    if not saw_gradient:
        listed = "none had a gradient when it came; does the optimizer step within the backward pass?"
    if not steps:
        listed = "none seen; under manual optimization call step() on what self.optimizers() returns"
    return "\n".join([f"[gradwatch] {steps} optimizer steps: {listed}", *(f"  next run: {line}" for line in advice)])
