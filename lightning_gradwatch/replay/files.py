# SPDX-License-Identifier: Apache-2.0
"""Files of what is needed to repeat an optimizer step, a bounded number of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class DumpFolder:
    """The newest files of one rank. Others in the folder, such as those of another run, are never deleted.

    Args:
        folder: Made when the first file is written.
        most: Files to keep, at least 1.

    Attributes:
        names: What was written, the newest last, without the ranks, so that it is the same on all of them.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.most = most
        self.names: list[str] = []

    def save(self, name: str, rank: int, content: dict[str, Any]) -> Path:
        """Writes one file, whole or not at all, and then deletes the oldest one beyond `most`.

        Raises:
            OSError: The folder cannot be written.
            RuntimeError: The same, in the words of ``torch.save``.
        """
        path = self._path(name, rank)
        unfinished = path.with_suffix(".tmp")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(content, unfinished)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        self.names = [*(known for known in self.names if known != name), name]
        while len(self.names) > self.most:
            self._path(self.names.pop(0), rank).unlink(missing_ok=True)
        return path

    def _path(self, name: str, rank: int) -> Path:
        return self.folder / f"{name}_rank_{rank}.pt"


def plain(value: Any, path: str, changed: list[str]) -> Any:
    """`value` as types that ``torch.load(weights_only=True)`` reads, on the CPU, in memory of its own.

    Args:
        value: Containers, to any depth, of tensors, arrays, numbers and strings.
        path: How the value is called, such as ``batch``.
        changed: Gets a sentence for each part that is of another type now.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).as_subclass(Tensor)
    result, kind = _like(value, path, changed)
    if type(result) is not type(value):
        changed.append(
            f"{path} was a {type(value).__module__}.{type(value).__qualname__} and is {kind} here: only plain types are"
            " read back with weights_only=True."
        )
    return result


def _like(value: Any, path: str, changed: list[str]) -> tuple[Any, str]:
    """The nearest plain type, and its name in a sentence."""
    if isinstance(value, Mapping):
        return {plain(k, path, changed): plain(v, f"{path}[{k!r}]", changed) for k, v in value.items()}, "a dict"
    if isinstance(value, (list, tuple)):
        parts = [plain(part, f"{path}[{i}]", changed) for i, part in enumerate(value)]
        return (parts, "a list") if isinstance(value, list) else (tuple(parts), "a tuple")
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: plain(part, f"{path}.{name}", changed) for name, part in named.items()}, "a dict"
    if isinstance(value, np.generic):
        return value.item(), "a Python number"
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.copy()), "a tensor"
    return None, "None"
