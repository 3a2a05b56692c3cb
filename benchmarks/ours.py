# SPDX-License-Identifier: Apache-2.0
"""Our callbacks as the benchmarks run them."""

from __future__ import annotations

from pytorch_lightning import Callback

from lightning_gradwatch import default_callbacks


def five() -> list[Callback]:
    """All callbacks at their defaults."""
    return list(default_callbacks(rescue=True))
