# SPDX-License-Identifier: Apache-2.0
"""Imports every file that declares a family, a fault or a variation."""

from __future__ import annotations

from benchmarks.zoo import variations_data, variations_training
from benchmarks.zoo.families import generative, interactive, science, sequences, tables, text, vision
from benchmarks.zoo.faults import feeds, formulas, loops, rates, special, starts, wiring

FILES = (
    tables,
    vision,
    sequences,
    text,
    generative,
    science,
    interactive,
    rates,
    loops,
    feeds,
    starts,
    wiring,
    formulas,
    special,
    variations_training,
    variations_data,
)
