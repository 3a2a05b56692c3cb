# SPDX-License-Identifier: Apache-2.0
"""All configurations, by when they were added: no rule had seen a batch before the first run of it."""

from __future__ import annotations

from benchmarks.listed import (
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
from benchmarks.listed.case import Case
from benchmarks.listed.second import healthy_losses as second_losses
from benchmarks.listed.second import healthy_networks as second_networks
from benchmarks.listed.second import healthy_training as second_training
from benchmarks.listed.second import sick_blow_up, sick_quiet

FIRST: tuple[tuple[Case, ...], ...] = (
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
SECOND: tuple[tuple[Case, ...], ...] = (
    sick_blow_up.CASES,
    sick_quiet.CASES,
    second_networks.CASES,
    second_losses.CASES,
    second_training.CASES,
)
BATCHES = {"first": FIRST, "second": SECOND}
CASES = {case.name: case for batch in BATCHES.values() for group in batch for case in group}
BATCH_OF = {case.name: name for name, batch in BATCHES.items() for group in batch for case in group}
