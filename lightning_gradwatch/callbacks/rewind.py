# SPDX-License-Identifier: Apache-2.0
"""`Rewind`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from typing_extensions import override

from lightning_gradwatch.arguments import fraction, whole_number
from lightning_gradwatch.callbacks.base import GradientCallback
from lightning_gradwatch.callbacks.explosion_detector import ExplosionDetector
from lightning_gradwatch.callbacks.lr_decay import LRDecay
from lightning_gradwatch.compat import lightning
from lightning_gradwatch.compat.distributed import mean_over_ranks
from lightning_gradwatch.engine.compatibility import refuse_rewind
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.engine.session import Session
from lightning_gradwatch.engine.step import StepRecord, StepResult
from lightning_gradwatch.errors import GradientExplosionError, GradwatchError
from lightning_gradwatch.events import EventKind, GradientEvent, Severity
from lightning_gradwatch.rewind.checkpoints import CheckpointHistory
from lightning_gradwatch.rewind.divergence import DivergenceDetector, Verdict
from lightning_gradwatch.rewind.event import rewound


class Rewind(GradientCallback):
    """Experimental. Takes a run whose weights are ruined back to a state that was known to be good, and goes on.

    The last good weights, buffers, optimizer states, schedules, GradScaler and statistics of our callbacks are kept in
    memory. When an alarm means that the weights are past help, they are put back, the learning rate is lowered, and
    the training goes on with the next batch: what was trained since is given up, and its batches are passed over. After
    `max_rewinds` the run is aborted, with the good weights.

    Usually enough: ``Rewind()`` next to an `ExplosionDetector`, whose alarms it hears; next to a `VanishingDetector`
    it hears of layers that died, too. What ends the run (``action="stop"`` and ``"abort"``, or too many skips) ends it
    all the same.

    The weights are ruined if a non-finite gradient comes with NaN or inf in them (or in buffers, such as the running
    statistics of a batch norm); if one step moved a matrix by 10 times its norm; if layers died that were alive; if 3
    steps in a row had no finite gradient, or a GradScaler is stuck, though there was a finite one since the last rewind
    (else it is the data); or if, `recovery_steps` after a spike, growth, too large an update or a non-finite gradient,
    the loss still lies 20 % and more than its noise above what it was when the weights were good. All of this is
    free of scale, and all ranks decide the same.

    A new state is kept every `keep_every_n_steps`; it counts as good `healthy_steps` later, and only if nothing is
    suspected, since alarms come late. The first is taken at the start of the training, or of its resumption: what is
    kept is not in the checkpoint, which holds the number of rewinds and the lowered learning rate.

    The learning rate is multiplied by `backoff`, through the `LRDecay` in the list if there is one (once, whatever that
    has done by itself), and comes back as `LRDecay` brings it back. If the run is ruined again within its memory, or
    goes back to the same state again, it is lowered further, and stays there.

    What is not taken back: the counters of the loop and of the data, random numbers (the same dropout masks would be
    drawn again), metrics and events, files of `ModelCheckpoint`, and what other callbacks keep that is no module (an
    average of the weights is one). A callback or module that defines ``on_gradient_event`` is told, by an event of
    kind ``rewound``, right after everything was put back.

    It costs memory for two states: the weights that train, the buffers and the optimizer states, twice (24 bytes per
    parameter for Adam in float32); of what is sharded, each rank keeps its part. On CUDA it is pinned memory of the
    host, and keeping waits for the device once.

    Logs ``grad_event/rewound``, and the tags of `LRDecay` where there is none in the list.

    Args:
        keep_every_n_steps: Optimizer steps from one kept state to the next.
        max_rewinds: Rewinds before the run is aborted, over all of it.
        healthy_steps: Optimizer steps without suspicion after which a state counts as good.
        recovery_steps: Optimizer steps after an alarm in which the loss may come back by itself, at least 6.
        backoff: Factor of the learning rate for each rewind, in (0, 1).
        dirpath: A folder to keep the states in, one file each and for each rank, deleted at the end; None for the
            memory.
        name: Tells several instances apart, in checkpoints and tags.

    Attributes:
        rewinds: Each as the steps (``trainer.global_step``) from which and to which the run went back.

    Raises:
        ValueError: An argument is out of range.
        TypeError: An argument is of the wrong type.
        GradwatchError: Before the first step: there is no `ExplosionDetector` in the Trainer, it runs under DeepSpeed's
            ZeRO, or `dirpath` cannot be written to.
        GradientExplosionError: During training: the weights are ruined once more after `max_rewinds`.

    Example:
        >>> Rewind(keep_every_n_steps=500, max_rewinds=3).describe()
        'rewind ruined weights, at most 3 times'
    """

    def __init__(
        self,
        *,
        keep_every_n_steps: int = 100,
        max_rewinds: int = 5,
        healthy_steps: int = 100,
        recovery_steps: int = 30,
        backoff: float = 0.25,
        dirpath: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.keep_every_n_steps = whole_number("keep_every_n_steps", keep_every_n_steps)
        self.max_rewinds = whole_number("max_rewinds", max_rewinds)
        self.healthy_steps = whole_number("healthy_steps", healthy_steps)
        self.recovery_steps = whole_number("recovery_steps", recovery_steps, least=6)
        self.backoff = fraction("backoff", backoff)
        if dirpath is not None and not isinstance(dirpath, (str, Path)):
            raise TypeError(f"`dirpath` must be a folder or None, got {dirpath!r}. Leave it out to keep all in memory.")
        self.dirpath = dirpath
        self.rewinds: list[tuple[int, int]] = []
        self._decay = LRDecay(on=[EventKind.REWOUND.value], backoff=backoff, name=name)
        self._ruined: dict[int, DivergenceDetector] = {}
        self._generations: CheckpointHistory | None = None
        self._where: dict[str, int] | None = None
        self._stepped = False

    @override
    def check(self, trainer: Any, pl_module: Any) -> None:
        if not any(isinstance(callback, ExplosionDetector) for callback in trainer.callbacks):
            raise GradwatchError(
                "Rewind() has nothing to do: no ExplosionDetector is in the Trainer's callbacks whose alarms it could"
                " hear. Add an ExplosionDetector()."
            )

    @override
    def describe(self) -> str:
        return f"rewind ruined weights, at most {self.max_rewinds} times"

    @override
    def begin(self, watch: OptimizerHooks) -> None:
        refuse_rewind(watch)
        self._decay.begin(watch)

    @override
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self._on and self._generations is None:
            self._ruined = {}
            self._generations = CheckpointHistory(
                self.keep_every_n_steps, self.healthy_steps, self.dirpath, trainer, pl_module
            )

    @override
    def on_measured(self, record: StepRecord) -> None:
        self._where, self._stepped = record.where, True
        if record.snapshot is not None and record.watch.evaluations == 1:
            self._ruined_of(record.trainer, record.watch.index).step(record.snapshot)

    def on_gradient_event(self, trainer: Any, pl_module: Any, event: GradientEvent) -> None:
        """Takes notice; what is to be done is decided once the step is over."""
        self._ruined_of(trainer, event.optimizer).hear(event)

    @override
    def on_applied(self, record: StepRecord) -> None:
        self._decay.on_applied(record)

    @override
    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        if self._decay_in_charge(trainer) is self._decay:
            self._decay.on_step_end(trainer, result)

    @override
    def end_batch(self, trainer: Any, pl_module: Any) -> None:
        generations, stepped, self._stepped = self._generations, self._stepped, False
        if generations is None or not stepped:
            return
        suspects = any(ruined.suspects for ruined in self._ruined.values())
        told = next((ruined.nonfinite for ruined in self._ruined.values() if ruined.nonfinite), None)
        looks = told is not None or (not suspects and generations.due(trainer))
        verdicts = [ruined.verdict() for ruined in self._ruined.values()]
        if looks and not generations.sound(trainer, pl_module):
            verdicts = [Verdict("NaN or inf in the weights or buffers", told)]
        verdict = next((verdict for verdict in verdicts if verdict is not None), None)
        if verdict is not None:
            self._go_back(trainer, pl_module, verdict, generations)
        elif not suspects and generations.step(trainer, pl_module):
            self._compare_with(generations)

    @override
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        generations = self._generations
        if generations is None or Session.of(trainer).stopping:
            return
        if not generations.sound(trainer, pl_module):
            self._where = self._where or lightning.position(trainer, 0)
            self._go_back(trainer, pl_module, Verdict("NaN or inf in the weights or buffers", None), generations)

    @override
    def memory(self) -> dict[str, Any]:
        return {"rewinds": [list(pair) for pair in self.rewinds], "decay": self._decay.memory()}

    @override
    def recall(self, state: dict[str, Any]) -> None:
        self.rewinds = [(start, end) for start, end in state["rewinds"]]
        self._decay.recall(state["decay"])

    @override
    def learned(self) -> dict[str, Any]:
        ruined = {index: ruined.state_dict() for index, ruined in self._ruined.items()}
        return {"ruined": ruined, "decay": self._decay.learned()}

    @override
    def relearn(self, state: dict[str, Any]) -> None:
        self._decay.relearn(state["decay"])
        for index, ruined in self._ruined.items():
            ruined.load_state_dict(state["ruined"].get(index))
        if self._generations is not None:
            self._generations.drop()

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._release()

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._release()

    @property
    def nbytes(self) -> int:
        """What is kept takes so many bytes on this rank, in memory or on disk; 0 outside of a fit."""
        return 0 if self._generations is None else self._generations.nbytes

    def _release(self) -> None:
        if self._generations is not None:
            self._generations.close()
            self._generations = None

    def _go_back(self, trainer: Any, pl_module: Any, verdict: Verdict, generations: CheckpointHistory) -> None:
        session, start = Session.of(trainer), trainer.global_step
        generations.go_back(trainer, pl_module)
        good = generations.good
        if len(self.rewinds) >= self.max_rewinds:
            self._abort(trainer, pl_module, verdict, good.step)
        self.rewinds.append((start, good.step))
        decay = self._decay_in_charge(trainer)
        scales = [decay.retreat(i, self.backoff, good.times) for i in range(len(trainer.optimizers))]
        self._compare_with(generations)
        did = (
            f"rewound to step {good.step} ({len(self.rewinds)} of at most {self.max_rewinds}); the {start - good.step}"
            f" steps since are given up, their batches passed over; learning rate x{min(scales):.3g}"
        )
        event = rewound(verdict, self._where or {}, did, rewinds=self.rewinds, limit=self.max_rewinds)
        session.dispatcher.emit(trainer, self, event, each_time=True)

    def _abort(self, trainer: Any, pl_module: Any, verdict: Verdict, step: int) -> NoReturn:
        session = Session.of(trainer)
        did = f"training aborted after {len(self.rewinds)} rewinds, weights those of step {step}"
        event = self.tripped = rewound(
            verdict,
            self._where or {},
            did,
            rewinds=self.rewinds,
            limit=self.max_rewinds,
            severity=Severity.ALARM,
        )
        session.dispatcher.emit(trainer, self, event, each_time=True)
        session.writer.flush()
        raise GradientExplosionError(event)

    def _compare_with(self, generations: CheckpointHistory) -> None:
        """What the losses were when the weights were known to be good."""
        for index, state in generations.good.learned[self.sort_key]["ruined"].items():
            self._ruined[index].good(state)

    def _decay_in_charge(self, trainer: Any) -> LRDecay:
        """The one that lowers the learning rate, so that it is done once."""
        others = [peer for peer in Session.of(trainer).peers(trainer) if isinstance(peer, LRDecay)]
        return others[0] if others else self._decay

    def _ruined_of(self, trainer: Any, optimizer: int) -> DivergenceDetector:
        if optimizer not in self._ruined:
            self._ruined[optimizer] = DivergenceDetector(self.recovery_steps, reduce=mean_over_ranks(trainer))
        return self._ruined[optimizer]
