# SPDX-License-Identifier: Apache-2.0
"""A quantile of a whole run in bounded memory."""

from __future__ import annotations

from bisect import bisect_right
from math import frexp, ldexp
from typing import Any

_PER_OCTAVE = 8  # bins between x and 2x: each is 9 % wide
_EDGES = [2 ** (i / _PER_OCTAVE - 1) for i in range(1, _PER_OCTAVE + 1)]  # upper edges within [0.5, 1)
_MOST_BINS = 512  # 64 octaves, if they are all in use
_EVERY = 16  # values between two looks at the bins


class RunQuantile:
    """The upper `share` quantile of positive numbers, to 9 %.

    Bins are fixed parts of an octave, so multiplying all numbers by a power of two multiplies the answer by exactly
    that. Beyond 512 bins the two lowest are joined, which leaves upper quantiles alone.
    Source: Masson, Rim & Lee, DDSketch, VLDB 2019; here with bins that line up with powers of two.

    Args:
        share: Share of the numbers above the quantile, in (0, 1).
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.value = 0.0
        self._count = 0
        self._bins: dict[int, int] = {}

    def add(self, x: float) -> None:
        """Takes one number; `value` is brought up to date at every 16th."""
        mantissa, exponent = frexp(x)
        key = exponent * _PER_OCTAVE + bisect_right(_EDGES, mantissa)
        self._bins[key] = self._bins.get(key, 0) + 1
        self._count += 1
        if self._count % _EVERY == 0:
            self._refresh()

    def state_dict(self) -> dict[str, Any]:
        """The bins, lowest first."""
        keys = sorted(self._bins)
        return {"value": self.value, "keys": keys, "counts": [self._bins[key] for key in keys]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self.value = state["value"]
        self._bins = dict(zip(state["keys"], state["counts"], strict=True))
        self._count = sum(state["counts"])

    def _refresh(self) -> None:
        keys = sorted(self._bins)
        while len(keys) > _MOST_BINS:
            lowest = keys.pop(0)
            self._bins[keys[0]] += self._bins.pop(lowest)
        above = 0
        for key in reversed(keys):
            above += self._bins[key]
            if above > self.share * self._count:
                exponent, part = divmod(key, _PER_OCTAVE)
                self.value = ldexp(_EDGES[part], exponent)
                return
