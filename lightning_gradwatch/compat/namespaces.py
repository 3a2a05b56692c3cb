# SPDX-License-Identifier: Apache-2.0
"""``pytorch_lightning`` and ``lightning.pytorch`` hold disjoint copies of every class; our callbacks belong to both."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    LightningCallback = Callback
else:

    def _callback_classes() -> tuple[type, ...]:
        """The `Callback` of every namespace that is imported already, else of every installed one."""
        loaded = [name for name in NAMESPACES if name in sys.modules]
        installed = [name for name in NAMESPACES if find_spec(name.partition(".")[0]) is not None]
        return tuple(import_module(name).Callback for name in loaded or installed)

    LightningCallback = type("LightningCallback", _callback_classes(), {"__doc__": "A callback of every namespace."})


def namespace(trainer: Any, module: str) -> Any:
    """`module` of the Trainer's own Lightning, such as ``"loggers"``."""
    root = type(trainer).__module__.partition(".")[0]
    for cls in type(trainer).__mro__:  # a subclass of Trainer may live anywhere
        if cls.__module__.split(".")[0] in ("lightning", "pytorch_lightning"):
            root = cls.__module__.split(".")[0]
    return import_module(("lightning.pytorch." if root == "lightning" else "pytorch_lightning.") + module)
