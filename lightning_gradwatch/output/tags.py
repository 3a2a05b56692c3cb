# SPDX-License-Identifier: Apache-2.0
"""The names under which things are logged."""

from __future__ import annotations

from typing import Any


def tag(stem: str, optimizer: int = 0, optimizers: int = 1, name: str | None = None) -> str:
    """A full tag.

    Args:
        stem: Such as ``"grad_norm/total"``.
        optimizer: Index of the optimizer.
        optimizers: How many there are; with several, each has its own tags.
        name: The callback's name, where it has one.
    """
    parts = [stem]
    if optimizers > 1:
        parts.append(f"opt{optimizer}")
    if name is not None:
        parts.append(name)
    return "/".join(parts)


def is_logged(trainer: Any, log_step: int, every_n_steps: int | None = None) -> bool:
    """Whether to log at a step: where ``self.log`` does, or every so many; ``log_every_n_steps=0`` is never."""
    every = trainer.log_every_n_steps if every_n_steps is None else every_n_steps
    return bool(every) and (log_step + 1) % every == 0
