# SPDX-License-Identifier: Apache-2.0
"""All configurations."""

from __future__ import annotations

from benchmarks.rescue import poison, rates, start

PAIRS = {pair.name: pair for group in (rates.PAIRS, poison.PAIRS, start.PAIRS) for pair in group}
