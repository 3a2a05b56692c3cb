# SPDX-License-Identifier: Apache-2.0
"""What Lightning calls at each ``Trainer()``, through its entry points: ``GRADWATCH=1`` watches without code.

Lightning catches nothing here, so that an error would break every Trainer of the environment: none leaves this module.
While ``GRADWATCH`` is unset nothing is imported.
"""

import os
from typing import Any

_told: set[str] = set()


def for_lightning() -> list[Any]:
    """For Trainers of ``lightning.pytorch``."""
    return _make("lightning.pytorch")


def for_pytorch_lightning() -> list[Any]:
    """For Trainers of ``pytorch_lightning``."""
    return _make("pytorch_lightning")


def _make(namespace: str) -> list[Any]:
    if not os.environ.get("GRADWATCH"):
        return []
    try:
        from lightning_gradwatch.environment import switch

        if not switch():
            return []
        from lightning_gradwatch.callbacks.autowatch import AutoWatch

        return [AutoWatch.of(namespace)]
    except Exception as error:  # of whatever kind: it would break every Trainer of the environment
        _tell_once(str(error))
        return []


def _tell_once(trouble: str) -> None:
    import logging

    if trouble not in _told:
        _told.add(trouble)
        logging.getLogger("lightning_gradwatch").warning("[gradwatch] nothing is watched: %s", trouble)
