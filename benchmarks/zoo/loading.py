# SPDX-License-Identifier: Apache-2.0
"""Imports every file that declares a family, a fault or a variation."""

from __future__ import annotations

from benchmarks.zoo.families import sequences, tables, text, vision
from benchmarks.zoo.faults import feeds, formulas, loops, rates, starts, wiring

FILES = (tables, vision, sequences, text, rates, loops, feeds, starts, wiring, formulas)
