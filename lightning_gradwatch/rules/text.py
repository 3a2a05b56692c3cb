# SPDX-License-Identifier: Apache-2.0
"""Numbers and names as a person writes them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf, isnan

_MOST_NAMES = 3


def number(value: float, digits: int = 2) -> str:
    """`value` in `digits` significant digits: ``62``, ``0.24``, ``3.1e4``, ``7e-15``, ``NaN``, ``inf``."""
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "inf" if value > 0 else "-inf"
    rounded = f"{value:.{digits - 1}e}"
    mantissa, power = rounded.split("e")
    plain = -3 < int(power) < max(3, digits)
    return f"{float(rounded):g}" if plain else f"{float(mantissa):g}e{int(power)}"


def listed(names: Sequence[str]) -> str:
    """``a, b, c and 5 more``."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def where(parts: Sequence[tuple[str, float]]) -> str:
    """The line that says which layers make the norm: ``where: decoder.11.mlp 91 %, lm_head 6 %``."""
    return "where: " + ", ".join(f"{layer} {share:.0%}".replace("%", " %") for layer, share in parts)
