# SPDX-License-Identifier: Apache-2.0
"""`AdaptiveClipper`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch.optim import Optimizer
from typing_extensions import override

from lightning_gradwatch.arguments import one_of, optional, positive, whole_number
from lightning_gradwatch.callbacks.base import GradientCallback
from lightning_gradwatch.callbacks.explosion_detector import ExplosionDetector
from lightning_gradwatch.compat import lightning
from lightning_gradwatch.engine.compatibility import refuse_bound, refuse_law
from lightning_gradwatch.engine.interventions import Touch
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.engine.participant import Patterns
from lightning_gradwatch.engine.session import Session
from lightning_gradwatch.engine.step import Members, StepRecord, StepResult, Watched
from lightning_gradwatch.events import EventKind
from lightning_gradwatch.laws import ElementwiseLaw, Law, LawName, TrustRatioClip, as_law
from lightning_gradwatch.laws.trust_ratio import USUAL_LIMIT
from lightning_gradwatch.lr.known import is_sgd
from lightning_gradwatch.output.tags import is_logged, tag
from lightning_gradwatch.rules import NonFinite
from lightning_gradwatch.rules.notices import clipped_hard
from lightning_gradwatch.rules.skip_budget import SkipBudget
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo, joint
from lightning_gradwatch.state import LazyStateDict

HARD = 0.1
"""A gradient of which no more than this share is left is worth a word."""

RATE_STEPS = 100
"""The clip rate is the share of clipped steps among the last so many."""


class AdaptiveClipper(GradientCallback):
    """Clips gradients by a law that learns what is normal for the run, and keeps non-finite ones away from the weights.

    Works under every strategy, also where ``gradient_clip_val`` raises (FSDP1, fused optimizers under fp16); replaces
    it. Where a library sets ``gradient_clip_val`` all the same, both limits hold, so the smaller one wins.

    Usually enough: ``AdaptiveClipper()``, or ``AdaptiveClipper(NormClip(max_norm=1.0))`` for a fixed limit.

    A non-finite gradient cannot be repaired by scaling, so that step is skipped: a true no-op, said each time.

    A law that learns takes the first norms for usual, whatever they are. So beside such a law the relative update of
    each layer is bounded too, from the first step on, where the optimizer is SGD (`TrustRatioClip` has the formula):
    a bad first batch, or a learning rate that is far too high, does not ruin the weights. Beside a limit of your own
    (``"norm"``, ``"value"``, ``"unitwise"``) and the published rules nothing else acts unless you ask for it.

    Where no more than a tenth of a gradient is left, an event of severity info names the batch and the layers that make
    the norm: of kind ``update_too_large`` for the bound, of kind ``spike`` for a law that learns, unless an
    `ExplosionDetector` is there to tell of the spike.

    Logs, with the Trainer's other scalars: ``grad_clip/threshold`` (the law's limit at the step), ``grad_clip/factor``
    (the smallest factor applied), ``grad_clip/rate`` (share of clipped steps among the last 100).

    Args:
        law: ``"norm"``, ``"value"``, ``"percentile"``, ``"zscore"``, ``"unitwise"`` with their defaults, or a law
            object.
        per: One limit for each ``"optimizer"``, or one for each parameter ``"group"``.
        max_skips: Non-finite gradients skipped in a row before the run is aborted; 0 aborts at the first.
        max_update_ratio: Largest relative update (learning rate times the norm of the gradient, over 1 - momentum and
            the norm of the layer's weights) that passes untouched, above 0. ``"auto"``: 0.3 beside a law that learns,
            None beside the others and under DeepSpeed, which clips by one norm. None for no such bound.
        include: Name patterns (fnmatch) of the parameters to clip; non-finite gradients are looked for in all.
        exclude: Name patterns of the parameters to leave alone.
        name: Tells several instances apart, in checkpoints and tags.

    Raises:
        ValueError: An argument is out of range.
        TypeError: An argument is of the wrong type.
        GradientExplosionError: During training: too many steps were skipped.

    Example:
        >>> AdaptiveClipper("percentile", per="group").describe()
        'clip by PercentileClip(percentile=50.0) per group; bound SGD updates at 0.3 of the weights; skip NaN and inf'
    """

    skips = True

    def __init__(
        self,
        law: LawName | Law | ElementwiseLaw = "zscore",
        *,
        per: Literal["optimizer", "group"] = "optimizer",
        max_skips: int = 20,
        max_update_ratio: float | Literal["auto"] | None = "auto",
        include: Patterns = None,
        exclude: Patterns = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, include=include, exclude=exclude)
        self.law = as_law(law)
        self._asked = isinstance(max_update_ratio, (int, float))
        self.per = one_of("per", per, ("optimizer", "group"))
        self.max_skips = whole_number("max_skips", max_skips, least=0)
        self.max_update_ratio = _update_ratio(max_update_ratio, self.law)
        self._bounds: LazyStateDict[int, TrustRatioClip] = LazyStateDict()
        self._laws: LazyStateDict[tuple[int, int], Law] = LazyStateDict()
        self._budgets: LazyStateDict[int, SkipBudget] = LazyStateDict()
        self._nonfinite: LazyStateDict[int, NonFinite] = LazyStateDict()
        self._hits: dict[int, list[bool]] = {}
        self._known: dict[int, tuple[ParameterInfo, list[tuple[Members, Law | ElementwiseLaw]]]] = {}

    @override
    def describe(self) -> str:
        per = " per group" if self.per == "group" else ""
        bound = (
            [] if self.max_update_ratio is None else [f"bound SGD updates at {self.max_update_ratio:g} of the weights"]
        )
        return "; ".join([f"clip by {self.law!r}{per}", *bound, "skip NaN and inf"])

    @override
    def notes(self, trainer: Any, watches: Sequence[OptimizerHooks]) -> list[str]:
        lines = [
            f"{type(watch.optimizer).__name__} evaluates its gradient several times in a step: nothing is clipped"
            " within it, and NaN or inf undo the whole step"
            for watch in watches
            if watch.searches
        ]
        if trainer.gradient_clip_val:
            both = f"Trainer(gradient_clip_val={trainer.gradient_clip_val!r}) and AdaptiveClipper both clip"
            lines.append(f"{both}: the smaller limit holds; gradient_clip_val=None leaves it to AdaptiveClipper")
        return lines

    @property
    @override
    def acts_as_asked(self) -> bool:
        return self.law.standalone

    @override
    def begin(self, watch: OptimizerHooks) -> None:
        refuse_law(watch, self.law, self.members(watch.meter.layout), per_group=self.per == "group")
        if self._asked:
            refuse_bound(watch)

    @override
    def acts_at_once(self, optimizer: Optimizer, *, scaled: bool) -> bool:
        return not scaled and not lightning.skips_on_device(optimizer)

    @override
    def on_measured(self, record: StepRecord) -> None:
        record.guard = True
        for members, law in self._parts(record.watch):
            if isinstance(law, Law):
                record.clips.append((law, members))
            else:
                record.elementwise.append((law, members))
        watch, most = record.watch, self.max_update_ratio
        if most is not None and not watch.is_engine and not watch.searches and is_sgd(watch.optimizer):
            record.bounds.append(bound := self._bound(watch, most))
            if bound.hot and not record.lagged:  # where the host lags it knows of trouble after a resume only
                watch.weigh_next()
        if record.snapshot is not None:
            self._skip_nonfinite(record, record.snapshot)

    @override
    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        norms, total, limits = result.snapshot.norms, result.snapshot.total, []
        unusual = False
        for members, law in self._parts(result.watch):
            if isinstance(law, Law):
                norm = total if members is None else joint(norms[members])
                limits.append(law.limit())
                unusual |= math.isfinite(norm) and norm > limits[-1]
                law.update(norm)
        result.limit = min(limits, default=result.limit)
        if result.factor <= HARD and not self.law.standalone:
            self._tell(trainer, result, unusual=unusual)
        hit = not result.skipped and (unusual or 0 < result.total_clipped < total)
        self._count(result, unusual=unusual)
        hits = self._hits.setdefault(result.snapshot.optimizer, [])
        hits.append(hit)
        del hits[:-RATE_STEPS]
        if result.notable or is_logged(trainer, result.snapshot.log_step):
            where = result.snapshot.optimizer, len(trainer.optimizers), self.name
            if limits and math.isfinite(min(limits)):
                result.scalars[tag("grad_clip/threshold", *where)] = min(limits)
            result.scalars[tag("grad_clip/factor", *where)] = result.factor
            result.scalars[tag("grad_clip/rate", *where)] = sum(hits) / len(hits)

    def _count(self, result: StepResult, *, unusual: bool) -> None:
        """Counts what this callback has changed at a step."""
        snapshot = result.snapshot
        untouched = not unusual and result.factor >= 1.0 and result.total_clipped >= snapshot.total
        if not len(snapshot.norms) or (untouched and not result.skipped):
            return
        if result.skipped:
            if not math.isfinite(snapshot.total):
                self.intervene(result, "skipped", Touch())
            return
        layer = snapshot.layout.layers[snapshot.layout.layer_of[int(np.argmax(snapshot.norms))]]
        by_law = result.factor / result.bound_factor if result.bound_factor > 0 else 1.0
        if isinstance(self.law, ElementwiseLaw):
            by_law = min(by_law, result.total_clipped / snapshot.total if snapshot.total > 0 else 1.0)
            unusual = by_law < 1.0
        if unusual and by_law < 1.0:
            self.intervene(result, "clipped", Touch(by_law, layer, snapshot.total))
        if self.max_update_ratio is not None and result.bound_factor < 1.0:
            rate = snapshot.lr
            sound = None if rate is None else rate * math.sqrt(result.bound_factor)  # limit**2 / ratio**2 was left
            self.intervene(result, "bounded", Touch(result.bound_factor, layer, sound))

    def _tell(self, trainer: Any, result: StepResult, *, unusual: bool) -> None:
        """Tells of a hard clip; an `ExplosionDetector` tells of norms that are unusual, and has more to say of them."""
        session = Session.of(trainer)
        if not (unusual and any(isinstance(peer, ExplosionDetector) for peer in session.peers(trainer))):
            told = clipped_hard(result.snapshot, result.total_clipped, result.factor, by_bound=not unusual)
            session.dispatcher.emit(trainer, self, told)

    @override
    def learned(self) -> dict[str, Any]:
        return {
            "hits": {index: list(hits) for index, hits in self._hits.items()},
            "laws": self._laws.state_dict(),
            "bounds": self._bounds.state_dict(),
            "budgets": self._budgets.state_dict(),
            "nonfinite": self._nonfinite.state_dict(),
        }

    @override
    def relearn(self, state: dict[str, Any]) -> None:
        self._hits = {index: list(hits) for index, hits in state["hits"].items()}
        self._laws.load_state_dict(state["laws"])
        self._bounds.load_state_dict(state.get("bounds", {}))  # not in the checkpoints of the first versions
        self._known.clear()
        self._budgets.load_state_dict(state["budgets"])
        self._nonfinite.load_state_dict(state["nonfinite"])

    def _parts(self, watch: Watched) -> list[tuple[Members, Law | ElementwiseLaw]]:
        """Which parameters each law limits."""
        known = self._known.get(watch.index)
        if known is None or known[0] is not watch.meter.layout:
            known = self._known[watch.index] = watch.meter.layout, self._made(watch)
        return known[1]

    def _made(self, watch: Watched) -> list[tuple[Members, Law | ElementwiseLaw]]:
        chosen = self.members(watch.meter.layout)
        if self.per == "optimizer":
            return [(chosen, self._law((watch.index, 0)))]
        return [
            (inside if chosen is None else np.intersect1d(inside, chosen), self._law((watch.index, i)))
            for i, inside in enumerate(watch.groups)
        ]

    def _bound(self, watch: Watched, limit: float) -> TrustRatioClip:
        bound = self._bounds.get(watch.index, lambda: TrustRatioClip(limit))
        bound.meet(watch.meter.layout, watch.groups, self.members(watch.meter.layout))
        return bound

    def _law(self, key: tuple[int, int]) -> Law | ElementwiseLaw:
        law = self.law
        return self._laws.get(key, law.clone) if isinstance(law, Law) else law

    def _skip_nonfinite(self, record: StepRecord, snapshot: GradientSnapshot) -> None:
        budget = self._budgets.get(snapshot.optimizer, lambda: SkipBudget(self.max_skips))
        budget.next_step()
        events = self._nonfinite.get(snapshot.optimizer, NonFinite).judge(snapshot)
        for event in events:
            record.report(self, event, *(budget.nonfinite() if event.kind is EventKind.NONFINITE else ("warn", "")))
        if not events:
            budget.sound()


def _update_ratio(given: object, law: Law | ElementwiseLaw) -> float | None:
    if given == "auto":
        return None if law.standalone else USUAL_LIMIT
    try:
        return optional(positive, "max_update_ratio", given)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f'`max_update_ratio` must be "auto", None or a number above 0, got {given!r}. Give one of them.'
        ) from None
