# SPDX-License-Identifier: Apache-2.0
"""Clip laws: past norms in, a limit out; the factor is a pure function of this step's norm."""

from lightning_gradwatch.laws.base import ElementwiseLaw, Law
from lightning_gradwatch.laws.named import LawName, as_law
from lightning_gradwatch.laws.norm import NormClip
from lightning_gradwatch.laws.percentile import PercentileClip
from lightning_gradwatch.laws.published import AutoClip, ZClip
from lightning_gradwatch.laws.trust_ratio import TrustRatioClip
from lightning_gradwatch.laws.unitwise import UnitwiseClip
from lightning_gradwatch.laws.value import ValueClip
from lightning_gradwatch.laws.zscore import ZScoreClip

__all__ = [
    "AutoClip",
    "ElementwiseLaw",
    "Law",
    "LawName",
    "NormClip",
    "PercentileClip",
    "TrustRatioClip",
    "UnitwiseClip",
    "ValueClip",
    "ZClip",
    "ZScoreClip",
    "as_law",
]
