# SPDX-License-Identifier: Apache-2.0
"""`VanishingDetector`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch.optim import Optimizer
from typing_extensions import override

from lightning_gradwatch.arguments import flag, fraction, one_of, optional, positive, whole_number
from lightning_gradwatch.callbacks.detector import SAMPLE_EVERY, Detector
from lightning_gradwatch.engine.participant import Patterns
from lightning_gradwatch.engine.step import StepRecord, Wanted
from lightning_gradwatch.engine.unmanaged_params import left_out, strays
from lightning_gradwatch.errors import VanishingGradientError
from lightning_gradwatch.events import Action, EventKind, GradientEvent, Severity
from lightning_gradwatch.rules import RuleSet, vanishing_rules
from lightning_gradwatch.rules.loss_history import Reduce
from lightning_gradwatch.rules.own import fresh_copies
from lightning_gradwatch.rules.rule import Rule


class VanishingDetector(Detector):
    """Finds gradients that vanish, and layers that do not learn.

    Usually enough: `action`, one absolute limit (`min_norm`), `patience`. The other rules compare layers with each
    other and ask whether the loss makes progress, so a model that has converged is not reported. What they find:
    gradients that shrink from layer to layer (`vanishing`), updates too small to matter (`stalled`), gradients that are
    exactly zero (`dead`), parameters that never got one (`disconnected`), gradients that move nothing (`not_updated`),
    recurrent layers whose early steps get none (`vanishing_in_time`), units without slope (`saturated`), weights that
    somebody else moves (`overwritten`), a loss that gets what it is not made for (`wrong_loss`, `same_output`).

    Logs ``grad_event/<kind>``, a running count: with each event that is news, and with the Trainer's other scalars.

    Args:
        action: What an alarm does. ``"warn"``: event and message. ``"stop"``: the training ends cleanly on all ranks,
            at once. ``"abort"``: raises `VanishingGradientError` on all ranks, after everything was logged.
        min_norm: Absolute limit for the L2 norm over all parameters, above 0, which always acts.
        patience: Consecutive steps below `min_norm`, or beyond a rule's own window, before it acts; 1 is at once.
        window: Optimizer steps over which progress of the loss is judged, at least 10. Nothing is found before two
            windows.
        depth_ratio: A layer whose gradient times weight is below this share of the largest one has vanished; in (0, 1).
        stall_ratio: Median relative update below which nothing moves; in (0, 1).
        dead_steps: Steps in a row with an exactly zero gradient, none, or no effect, that make a layer dead.
        diagnose: Whether the first batch is looked at, and the activations of three more once something was found, and
            whether gradients through time and saturated units are judged, which only hooks can see.
        rules: Rules of your own, asked beside the others: objects with ``judge(snapshot)``, ``state_dict()`` and
            ``load_state_dict()``; each optimizer gets copies.
        monitor: Name of a logged metric to use as the loss; needed with several backward calls per step. On CUDA
            reading it waits for the device.
        ignore: Event kinds to mute, such as ``["dead"]``.
        include: Name patterns (fnmatch) of the parameters to judge.
        exclude: Name patterns of the parameters to leave out.
        name: Tells several instances apart, in checkpoints and tags.

    Attributes:
        events: What was found, the newest last; at most 1,000.
        tripped: The event that ended the run, or None.

    Raises:
        ValueError: An argument is out of range.
        TypeError: An argument is of the wrong type.
        VanishingGradientError: During training, where the action is ``"abort"``.

    Example:
        >>> VanishingDetector(action="stop", min_norm=1e-6, patience=100).tripped is None
        True
    """

    error = VanishingGradientError

    def __init__(
        self,
        *,
        action: Literal["warn", "stop", "abort"] = "warn",
        min_norm: float | None = None,
        patience: int = 1,
        window: int = 50,
        depth_ratio: float = 1e-3,
        stall_ratio: float = 1e-6,
        dead_steps: int = 50,
        diagnose: bool = True,
        rules: Sequence[Rule] = (),
        monitor: str | None = None,
        ignore: Sequence[str] = (),
        include: Patterns = None,
        exclude: Patterns = None,
        name: str | None = None,
    ) -> None:
        super().__init__(rules=rules, monitor=monitor, ignore=ignore, include=include, exclude=exclude, name=name)
        self.action: Action = one_of("action", action, ("warn", "stop", "abort"))
        self.diagnose = flag("diagnose", diagnose)
        self._settings: dict[str, Any] = {
            "min_norm": optional(positive, "min_norm", min_norm),
            "patience": whole_number("patience", patience),
            "window": whole_number("window", window, least=10),
            "depth_ratio": fraction("depth_ratio", depth_ratio),
            "stall_ratio": fraction("stall_ratio", stall_ratio),
            "dead_steps": whole_number("dead_steps", dead_steps, least=3),
            "ignore": self.ignore,
        }

    @override
    def describe(self) -> str:
        return "" if self.action == "warn" else f"{self.action} on vanishing"

    @override
    def acts_at_once(self, optimizer: Optimizer, *, scaled: bool) -> bool:
        return self.action != "warn"

    @override
    def make_rules(self, reduce: Reduce | None, *, rivals: bool, finds_rate: bool) -> RuleSet:
        own = fresh_copies(self.own_rules)
        return vanishing_rules(**self._settings, own=own, reduce=reduce)

    @override
    def on_measured(self, record: StepRecord) -> None:
        super().on_measured(record)
        steps = self._settings["dead_steps"]
        if record.snapshot is None or record.snapshot.step != steps or EventKind.NOT_UPDATED.value in self.ignore:
            return
        names = [name for name in strays(record.trainer, record.pl_module) if self.chosen(name)]
        if names:
            record.report(self, left_out(record.snapshot, names, steps), "warn")

    @override
    def reaction(self, record: StepRecord, event: GradientEvent, rule: str) -> tuple[Action, str]:
        return (self.action if event.severity is Severity.ALARM else "warn"), ""

    @override
    def wants_updates(self, record: StepRecord) -> Wanted:
        return "sample" if record.where["step"] % SAMPLE_EVERY == 0 else None
