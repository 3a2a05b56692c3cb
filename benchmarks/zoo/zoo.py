# SPDX-License-Identifier: Apache-2.0
"""All configurations."""

from __future__ import annotations

from benchmarks.zoo import (
    healthy_changes,
    healthy_losses,
    healthy_networks,
    healthy_optimizers,
    healthy_parts,
    sick_cut,
    sick_dead,
    sick_half,
    sick_nonfinite,
    sick_rates,
    sick_scale,
    sick_still,
    sick_time,
    sick_vanishing,
)
from benchmarks.zoo.case import Case

GROUPS: tuple[tuple[Case, ...], ...] = (
    sick_rates.CASES,
    sick_scale.CASES,
    sick_nonfinite.CASES,
    sick_half.CASES,
    sick_vanishing.CASES,
    sick_still.CASES,
    sick_time.CASES,
    sick_dead.CASES,
    sick_cut.CASES,
    healthy_networks.CASES,
    healthy_optimizers.CASES,
    healthy_losses.CASES,
    healthy_parts.CASES,
    healthy_changes.CASES,
)
CASES = {case.name: case for group in GROUPS for case in group}
