# SPDX-License-Identifier: Apache-2.0
"""One object for each optimizer or group, made when it is first needed; its state may come earlier than that."""

from __future__ import annotations

from collections.abc import Callable, Hashable, ItemsView, ValuesView
from typing import Any, Generic, Protocol, TypeVar


class Stateful(Protocol):
    """Has a memory that a checkpoint keeps."""

    def state_dict(self) -> dict[str, Any]:
        """The memory."""

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Continues where it was taken."""


K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=Stateful)


class LazyStateDict(Generic[K, T]):
    """A dictionary of stateful objects.

    A checkpoint is loaded before the first step, and under some strategies before or after the optimizers exist; so the
    state of an object waits here until somebody asks for it.
    """

    def __init__(self) -> None:
        self._made: dict[K, T] = {}
        self._waiting: dict[K, dict[str, Any]] = {}

    def get(self, key: K, make: Callable[[], T]) -> T:
        """The object of this key."""
        if key not in self._made:
            self._made[key] = make()
            if key in self._waiting:
                self._made[key].load_state_dict(self._waiting.pop(key))
        return self._made[key]

    def values(self) -> ValuesView[T]:
        """The objects made so far."""
        return self._made.values()

    def items(self) -> ItemsView[K, T]:
        """What was made so far."""
        return self._made.items()

    def state_dict(self) -> dict[K, dict[str, Any]]:
        """All memories."""
        return {**self._waiting, **{key: value.state_dict() for key, value in self._made.items()}}

    def load_state_dict(self, state: dict[K, dict[str, Any]]) -> None:
        """Continues where `state` was taken."""
        self._made, self._waiting = {}, dict(state)
