# SPDX-License-Identifier: Apache-2.0
"""Which parameters a fault was already reported for."""

from __future__ import annotations

import numpy as np

from lightning_gradwatch.events import Severity
from lightning_gradwatch.rules.depth import Indices
from lightning_gradwatch.rules.loss_history import LossHistory
from lightning_gradwatch.snapshot import Bools, Floats, GradientSnapshot

_WARNED, _ALARMED = 1, 2


def news(
    snapshot: GradientSnapshot, faulty: Bools, reported: Floats, losses: LossHistory
) -> tuple[Severity, Indices] | None:
    """The severity of a fault, and the parameters for which that has not been said yet; None if there are none.

    A fault of single layers is a warning: idle experts and unused heads are common and harmless. It is an alarm where
    the first matrix has it, so that nothing below the fault learns, and the training makes no progress.

    Args:
        snapshot: This step.
        faulty: [P] which parameters have the fault now.
        reported: [P] what was said of each; changed in place. A parameter that recovers may be reported again.
        losses: Asked where the first matrix has the fault.
    """
    reported[~faulty] = 0
    if not (faulty & (reported < _ALARMED)).any():
        return None
    matrices = np.flatnonzero(snapshot.layout.matrix & (snapshot.present | faulty))
    alarm = len(matrices) > 0 and bool(faulty[matrices[0]]) and losses.stuck() is True
    level = _ALARMED if alarm else _WARNED
    new = np.flatnonzero(faulty & (reported < level))
    reported[new] = level
    return (Severity.ALARM if alarm else Severity.WARNING, new) if len(new) else None
