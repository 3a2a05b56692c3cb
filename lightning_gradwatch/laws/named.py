# SPDX-License-Identifier: Apache-2.0
"""The short names of the laws."""

from __future__ import annotations

from inspect import signature
from typing import Literal

from lightning_gradwatch.arguments import one_of
from lightning_gradwatch.laws.base import ElementwiseLaw, Law
from lightning_gradwatch.laws.norm import NormClip
from lightning_gradwatch.laws.percentile import PercentileClip
from lightning_gradwatch.laws.unitwise import UnitwiseClip
from lightning_gradwatch.laws.value import ValueClip
from lightning_gradwatch.laws.zscore import ZScoreClip

LawName = Literal["norm", "value", "percentile", "zscore", "unitwise"]

_LAWS: dict[str, type[Law] | type[ElementwiseLaw]] = {
    "norm": NormClip,
    "value": ValueClip,
    "percentile": PercentileClip,
    "zscore": ZScoreClip,
    "unitwise": UnitwiseClip,
}


def as_law(law: LawName | Law | ElementwiseLaw) -> Law | ElementwiseLaw:
    """A law with its defaults for a name; a law as it is.

    Raises:
        TypeError: `law` is neither.
        ValueError: There is no law of that name.
    """
    if isinstance(law, (Law, ElementwiseLaw)):
        lost = [name for name in signature(type(law)).parameters if not hasattr(law, f"_{name}")]
        if lost:
            raise TypeError(
                f"`law` must keep its arguments, to be shown and copied, but {type(law).__name__} has no `_{lost[0]}`."
                f" Write self._{lost[0]} = {lost[0]} in its __init__."
            )
        return law
    if not isinstance(law, str):
        raise TypeError(
            f"`law` must be one of {', '.join(map(repr, _LAWS))} or a law object, got {law!r}."
            " Give a name, or an object such as NormClip(max_norm=0.5)."
        )
    return _LAWS[one_of("law", law, tuple(_LAWS))]()
