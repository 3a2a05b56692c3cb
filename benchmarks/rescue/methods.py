# SPDX-License-Identifier: Apache-2.0
"""What the runs are trained with."""

from __future__ import annotations

from collections.abc import Callable

from pytorch_lightning import Callback

from benchmarks.listed.tasks import Run
from benchmarks.ours import five
from benchmarks.peers import AutoClip, ZClip
from lightning_gradwatch import AdaptiveClipper, Rewind

Method = Callable[[Run], tuple[Run, list[Callback]]]

BARE, CLIP, AUTOCLIP, ZCLIP = "bare", "gradient_clip_val=1.0", "AutoClip", "ZClip"
CLIPPER, OURS, REWIND = "AdaptiveClipper alone", "five callbacks", "five callbacks and Rewind"


def added(make: Callable[[], list[Callback]]) -> Method:
    """The run with callbacks."""
    return lambda run: (run, make())


def clipped(max_norm: float) -> Method:
    """The run with Lightning's own clipping."""
    return lambda run: (run._replace(trainer={**run.trainer, "gradient_clip_val": max_norm}), [])


# "five callbacks" is clipper and back-off: the other three only watch, and skip what is NaN as the clipper does.
METHODS: dict[str, Method] = {
    BARE: added(list),
    CLIP: clipped(1.0),
    AUTOCLIP: added(lambda: [AutoClip()]),
    ZCLIP: added(lambda: [ZClip()]),
    CLIPPER: added(lambda: [AdaptiveClipper()]),
    OURS: added(five),
    REWIND: added(lambda: [*five(), Rewind()]),
}
