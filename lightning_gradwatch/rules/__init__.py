# SPDX-License-Identifier: Apache-2.0
"""Numbers in, events out. No torch and no Lightning in here.

Example:
    >>> import numpy as np
    >>> from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo
    >>> layout = ParameterInfo(("net.weight",), ((2, 2),))
    >>> rules = explosion_rules(max_norm=1.0)
    >>> found = rules.judge(GradientSnapshot(layout, norms=np.array([5.0]), present=np.array([True])))
    >>> print(found[0].message.splitlines()[0])
    grad norm 5, limit 1 (max_norm)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lightning_gradwatch.events import EventKind
from lightning_gradwatch.rules.baseline import Baseline
from lightning_gradwatch.rules.dead import Dead
from lightning_gradwatch.rules.depth import depth_factor, speed_spread
from lightning_gradwatch.rules.disconnected import Disconnected
from lightning_gradwatch.rules.diverging import Diverging
from lightning_gradwatch.rules.exploding_depth import ExplodingDepth
from lightning_gradwatch.rules.growth import Growth
from lightning_gradwatch.rules.limits import AbsoluteLimits
from lightning_gradwatch.rules.loss_history import LossHistory, Reduce
from lightning_gradwatch.rules.misuse import Misuse
from lightning_gradwatch.rules.nonfinite import NonFinite
from lightning_gradwatch.rules.not_updated import NotUpdated
from lightning_gradwatch.rules.off_scale import OffScale
from lightning_gradwatch.rules.overwritten import Overwritten
from lightning_gradwatch.rules.own import assert_scale_free, finding
from lightning_gradwatch.rules.probe_reading import ProbeReading, ProbeRule
from lightning_gradwatch.rules.replaced import Replaced
from lightning_gradwatch.rules.rule import Rule
from lightning_gradwatch.rules.ruleset import RuleSet
from lightning_gradwatch.rules.saturated import Saturated
from lightning_gradwatch.rules.spike import Spike
from lightning_gradwatch.rules.stalled import Stalled
from lightning_gradwatch.rules.update import UpdateTooLarge
from lightning_gradwatch.rules.vanishing_depth import VanishingDepth
from lightning_gradwatch.rules.vanishing_in_time import ExplodingInTime, VanishingInTime

__all__ = [
    "AbsoluteLimits",
    "Baseline",
    "Dead",
    "Disconnected",
    "Diverging",
    "ExplodingDepth",
    "ExplodingInTime",
    "Growth",
    "LossHistory",
    "Misuse",
    "NonFinite",
    "NotUpdated",
    "OffScale",
    "Overwritten",
    "ProbeReading",
    "ProbeRule",
    "Reduce",
    "Replaced",
    "Rule",
    "RuleSet",
    "Saturated",
    "Spike",
    "Stalled",
    "UpdateTooLarge",
    "VanishingDepth",
    "VanishingInTime",
    "assert_scale_free",
    "depth_factor",
    "explosion_rules",
    "finding",
    "speed_spread",
    "vanishing_rules",
]


def explosion_rules(
    *,
    max_norm: float | None = None,
    max_abs: float | None = None,
    patience: int = 1,
    window: int = 50,
    warmup_steps: int = 20,
    spike_factor: float = 10.0,
    spike_z: float = 6.0,
    growth_factor: float = 30.0,
    max_update_ratio: float = 0.5,
    ignore: Iterable[EventKind | str] = (),
    own: Mapping[str, Rule] | None = None,
    reduce: Reduce | None = None,
    rivals: bool = False,
    finds_rate: bool = False,
) -> RuleSet:
    """The rules of `ExplosionDetector`, for one optimizer; its arguments, `reduce` as in `LossHistory`, and two more.

    `rivals` says that there are several optimizers, one of whose progress may be the other's loss; `finds_rate` that
    this one finds its learning rate by itself.
    """
    losses = LossHistory(window, reduce)
    rules: dict[str, Rule] = {
        "nonfinite": NonFinite(alone=reduce is None),
        "limits": AbsoluteLimits(max_norm=max_norm, max_abs=max_abs, patience=patience),
        "spike": Spike(losses, window=window, warmup_steps=warmup_steps, factor=spike_factor, z=spike_z),
        "growth": Growth(losses, window=window, factor=growth_factor, patience=patience),
        "diverging": Diverging(losses, window=window, rivals=rivals, patience=patience),
        "depth": ExplodingDepth(losses, patience=patience),
        "scale": OffScale(losses, window=window, patience=patience),
        "update": UpdateTooLarge(losses, limit=max_update_ratio, patience=patience),
        "replaced": Replaced(losses, window=window, finds_rate=finds_rate),
        "time": ExplodingInTime(losses, window=window),
    }
    return RuleSet({**rules, **(own or {})}, losses, ignore)


def vanishing_rules(
    *,
    min_norm: float | None = None,
    patience: int = 1,
    window: int = 50,
    depth_ratio: float = 1e-3,
    stall_ratio: float = 1e-6,
    dead_steps: int = 50,
    ignore: Iterable[EventKind | str] = (),
    own: Mapping[str, Rule] | None = None,
    reduce: Reduce | None = None,
) -> RuleSet:
    """The rules of `VanishingDetector`, for one optimizer; its arguments, and `reduce` as in `LossHistory`.

    Saturated units and gradients that vanish over time are not in a snapshot; they come by `RuleSet.learn`.
    """
    losses = LossHistory(window, reduce)
    rules: dict[str, Rule] = {
        "limits": AbsoluteLimits(min_norm=min_norm, patience=patience),
        "depth": VanishingDepth(losses, window=window, ratio=depth_ratio, patience=patience),
        "overwritten": Overwritten(losses, window=window, patience=patience),
        "misuse": Misuse(losses, window=window),
        "stalled": Stalled(losses, window=window, ratio=stall_ratio, patience=patience),
        "dead": Dead(losses, steps=dead_steps, patience=patience),
        "disconnected": Disconnected(losses, steps=dead_steps, patience=patience),
        "not_updated": NotUpdated(losses, steps=dead_steps, patience=patience),
        "time": VanishingInTime(losses, window=window),
        "saturated": Saturated(losses, window=window),
    }
    return RuleSet({**rules, **(own or {})}, losses, ignore)
