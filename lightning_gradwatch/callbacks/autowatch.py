# SPDX-License-Identifier: Apache-2.0
"""What ``GRADWATCH=1`` puts into a Trainer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from typing_extensions import override

from lightning_gradwatch.callbacks.defaults import watchers
from lightning_gradwatch.compat.namespaces import LightningCallback
from lightning_gradwatch.engine.participant import Participant
from lightning_gradwatch.output.failsafe import logger


class AutoWatch(LightningCallback):
    """Attaches callbacks that only watch when a fit begins, unless the Trainer has any of ours by then.

    Not at once: Lightning calls the entry point before it knows what ``configure_callbacks`` adds, and refuses two
    callbacks of the same state key. The user's own list wins as a whole, since a single detector more could be heard
    by an `LRDecay` in it.
    """

    def __init__(self) -> None:
        self._watchers: list[Any] = []

    @classmethod
    def of(cls, namespace: str) -> AutoWatch:
        """One that a Trainer of this namespace takes.

        Raises:
            TypeError: The callbacks were made for the other namespace before this one was imported.
        """
        if not issubclass(cls, import_module(namespace).Callback):
            raise TypeError(
                f"the callbacks are made for the Lightning that was imported first, and this Trainer is of {namespace}."
                f" Import {namespace} before the first Trainer is made."
            )
        return cls()

    @override
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        own, self._watchers = self._watchers, []
        kept = [callback for callback in trainer.callbacks if not any(callback is watcher for watcher in own)]
        trainer.callbacks = kept
        if any(isinstance(callback, Participant) for callback in kept):
            return
        try:
            made = own or watchers()
            for watcher in made:
                watcher.setup(trainer, pl_module, stage)
        except Exception:  # of whatever kind: it must not end a training whose code never asked for us
            logger.exception("[gradwatch] GRADWATCH=1 could not attach its callbacks; the training goes on without.")
            return
        self._watchers = made
        place = 1 + next(i for i, callback in enumerate(kept) if callback is self)  # checkpoints are last, and stay so
        trainer.callbacks = [*kept[:place], *made, *kept[place:]]
