# SPDX-License-Identifier: Apache-2.0
"""What DeepSpeed's engine must do for us, since it steps by itself."""

from __future__ import annotations

from lightning_gradwatch import zero
from lightning_gradwatch.callbacks.watch import Watch
from lightning_gradwatch.errors import GradwatchError


def refuse_unskipped(watch: Watch) -> None:
    """Raises where the engine would take a step with a non-finite gradient, which it alone could skip."""
    if not zero.skips_nonfinite(watch.optimizer):
        raise GradwatchError(
            "DeepSpeed's bf16 setting `check_grad_overflow` is off, so its engine takes steps with NaN and inf, and"
            ' nobody else can skip them. Switch it on, or choose ExplosionDetector(nonfinite="abort").'
        )
