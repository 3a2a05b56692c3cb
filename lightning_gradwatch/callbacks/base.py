# SPDX-License-Identifier: Apache-2.0
"""The one base class of the callbacks: the hooks of Lightning."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lightning_gradwatch.compat.distributed import mean_over_ranks
from lightning_gradwatch.compat.namespaces import LightningCallback
from lightning_gradwatch.engine.participant import Participant
from lightning_gradwatch.engine.session import Session
from lightning_gradwatch.engine.startup_notes import notes
from lightning_gradwatch.environment import switched_off
from lightning_gradwatch.errors import GradwatchError
from lightning_gradwatch.output.console import ensure_visible, start_line, summary_line, tell

CHECKPOINT_KEY, LOOKS_KEY = "lightning_gradwatch", "lightning_gradwatch_looks"
_VERSION = 1


class GradientCallback(Participant, LightningCallback):
    """A callback that shares one measurement per optimizer step with the others of this package.

    The last of them in the Trainer's list does the work for all, so that every gradient is read once and the order of
    the list makes no difference; that one is looked up each time, since ``configure_callbacks`` adds some late. Nothing
    is checked or said in ``validate``, ``test`` and ``predict``. ``GRADWATCH=0`` in the environment switches everything
    off.
    """

    _on = True

    @cached_property
    def state_key(self) -> str:
        """Tells the instances apart in a checkpoint. Lightning asks for it at every hook."""
        return self._generate_state_key(name=self.name)

    @override
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._on = not switched_off()
        if stage == "fit" and self._on:
            ensure_visible()
            self.check(trainer, pl_module)

    @override
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if self._on:
            self.check_optimizers(trainer, pl_module)

    @override
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not self._leads(trainer):
            return
        session = Session.of(trainer)
        watches = [session.watch(trainer, pl_module, optimizer) for optimizer in trainer.optimizers]
        waits = any(session.waits(trainer, watch) for watch in watches)

        def introduce() -> None:
            tell(trainer, start_line(trainer, watches, [peer.describe() for peer in session.peers(trainer)]))
            for note in notes(trainer, pl_module, trainer.optimizers, waits=waits):
                tell(trainer, note)

        session.shield.run("start", "the lines at the start failed", introduce)

    @override
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._leads(trainer):
            session = Session.of(trainer)
            if any(peer.diagnose for peer in session.peers(trainer)):
                session.diagnosis.begin_batch(trainer, pl_module, batch)

    @override
    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        if self._leads(trainer):
            Session.of(trainer).add_loss(trainer, loss)

    @override
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        if self._leads(trainer):
            Session.of(trainer).step(trainer, pl_module, optimizer)

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._leads(trainer):
            session = Session.of(trainer)
            session.diagnosis.end_batch(trainer, pl_module)
            session.finish_batch(trainer)
            session.end_batch(trainer, pl_module)

    @override
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._leads(trainer):
            session = Session.of(trainer)
            session.drain(trainer, pl_module)
            session.writer.flush()
            counts = [peer.counts for peer in session.peers(trainer)]
            tell(trainer, summary_line(counts, session.steps))

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._leads(trainer):
            Session.of(trainer).writer.flush(draw=False)  # what fails here must not hide the exception
        Session.close(trainer)

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            Session.close(trainer)

    @override
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._leads(trainer):
            session = Session.of(trainer)
            checkpoint[CHECKPOINT_KEY] = session.state_dict(mean_over_ranks(trainer))
            checkpoint[LOOKS_KEY] = session.diagnosis.state_dict()

    @override
    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._leads(trainer):
            session = Session.of(trainer)
            session.load_state_dict(checkpoint.get(CHECKPOINT_KEY, {}))
            if LOOKS_KEY in checkpoint:
                session.diagnosis.load_state_dict(checkpoint[LOOKS_KEY])

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"version": _VERSION, "counts": dict(self.counts), **self.memory()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("version") != _VERSION:
            raise GradwatchError(
                f"The checkpoint holds version {state_dict.get('version')!r} of the state of {type(self).__name__},"
                f" this release reads version {_VERSION}. Resume with the release that wrote it, or delete"
                f" checkpoint['callbacks'][{self.state_key!r}] to start with fresh statistics."
            )
        self.counts = dict(state_dict["counts"])
        self.recall(state_dict)

    def memory(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: plain types that ``torch.load(weights_only=True)`` reads."""
        return self.learned()

    def recall(self, state: dict[str, Any]) -> None:
        """Continues where `memory` was taken."""
        self.relearn(state)

    def _leads(self, trainer: Any) -> bool:
        if self._on:
            for callback in reversed(trainer.callbacks):
                if isinstance(callback, Participant):
                    return callback is self
        return False
