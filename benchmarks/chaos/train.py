# SPDX-License-Identifier: Apache-2.0
"""One process that trains by a plan, and what it saw."""

from __future__ import annotations

import logging
import signal
import traceback
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import TensorDataset

from benchmarks.chaos.faults import Memory, Module, User, logger
from benchmarks.chaos.plan import EPOCH, STEPS, Plan
from benchmarks.resumable import Resumable
from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    LRDecay,
    VanishingDetector,
)


@dataclass
class Seen:
    """What a process hands back.

    Attributes:
        error: Type and text of what the fit raised, or None.
        ours: Whether a line of ours stands in its traceback, below the hooks that Lightning calls.
        steps: Optimizer steps done.
        own: Those of them that this process did.
        weights: All of them, at the end.
        bad: Steps after which a weight was not finite.
        kept: The detectors' events: kind, severity, step, layers.
        before: Those of them that came with a checkpoint.
        heard: What the user's callback and module heard, likewise.
        unasked: Those of them that tell what a clipper or a rate did of its own accord, which no detector keeps.
        counts: Events by kind, the most that any callback has.
        said: The console's lines.
        tags: The last value of each tag, where the logger keeps them.
        scales: The learning rate's scale, and the optimizers' rates.
    """

    error: tuple[str, str] | None = None
    ours: bool = False
    steps: int = 0
    own: int = 0
    weights: list[float] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    kept: list[tuple[Any, ...]] = field(default_factory=list)
    before: list[tuple[Any, ...]] = field(default_factory=list)
    heard: list[list[tuple[Any, ...]]] = field(default_factory=list)
    unasked: list[tuple[Any, ...]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    tags: dict[str, float] | None = None
    scales: list[float] = field(default_factory=list)


class Lines(logging.Handler):
    """Keeps what the package says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One message."""
        self.lines.append(record.getMessage())


def callbacks(plan: Plan) -> list[Any]:
    """Ours, in the order of the plan."""
    settings: dict[str, Any] = {"action": plan.action, "nonfinite": plan.nonfinite, "max_norm": plan.max_norm}
    ours = [
        GradientNormLogger(),
        ExplosionDetector(**settings, window=10, warmup_steps=3),
        VanishingDetector(window=10, dead_steps=5),
        None if plan.law == "none" else AdaptiveClipper(plan.law),
        LRDecay(gamma=0.99, every=5, cooldown_steps=1, hold_steps=2, rewarm_steps=8),
    ]
    return [ours[i] for i in plan.order if ours[i] is not None]


def batches() -> Resumable:
    """Three tensors: [4, 6], [4, 1] and a row of the table for each."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(4 * EPOCH, 6, generator=generator)
    return Resumable(TensorDataset(x, x.sum(1, keepdim=True).sin(), torch.arange(len(x)) % 5), batch_size=4)


def train(plan: Plan, folder: Path, ckpt_path: Path | None = None) -> Seen:
    """Trains in this process; dies where the plan says so."""
    quiet()
    lines, package = Lines(), logging.getLogger("lightning_gradwatch")
    package.handlers, package.propagate = [lines], False
    package.setLevel(logging.INFO)
    torch.manual_seed(plan.seed)
    module, user, ours, sink = Module(plan), User(plan), callbacks(plan), logger(plan, folder)
    error, ours_raised = None, False
    trainer = make_trainer(plan, [*ours, user, *keepers(plan, folder)], sink)
    if plan.death is not None and plan.death[0] == "SIGKILL at a time":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process as hard as SIGKILL
        signal.setitimer(signal.ITIMER_REAL, 0.02 * plan.death[2])
    try:
        trainer.fit(module, batches(), ckpt_path=ckpt_path, weights_only=True)
    except BaseException as raised:
        error = type(raised).__name__, str(raised)
        ours_raised = "lightning_gradwatch" in "".join(traceback.format_tb(raised.__traceback__))
    optimizers = trainer.optimizers
    return Seen(
        error=error,
        ours=ours_raised,
        steps=trainer.global_step,
        own=0 if user.first is None else trainer.global_step - user.first,
        weights=torch.nn.utils.parameters_to_vector(module.parameters()).tolist(),
        bad=user.bad,
        kept=[fact(e) for callback in ours for e in getattr(callback, "events", [])],
        before=[fact(e) for e in user.before],
        heard=[[fact(e) for e in heard] for heard in (user.heard, module.heard)],
        unasked=[fact(e) for e in user.heard if e.severity == "info" and e.prevented],
        counts={k: max(c.counts.get(k, 0) for c in ours) for c in ours for k in c.counts},
        said=lines.lines,
        tags=sink.tags if isinstance(sink, Memory) and not sink.raises else None,
        scales=[float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups],
    )


def fact(event: Any) -> tuple[Any, ...]:
    """What identifies an event."""
    return event.kind.value, event.severity.value, event.step, event.layers


def keepers(plan: Plan, folder: Path) -> list[Any]:
    """Checkpoints every few batches, and on an exception; none where the disk is full."""
    if plan.logger == "disk full":
        return []
    often = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1, save_on_train_epoch_end=False)
    return [often, OnExceptionCheckpoint(folder)]


def make_trainer(plan: Plan, callbacks: list[Any], sink: Any) -> Trainer:
    """Quiet, on the CPU."""
    settings: dict[str, Any] = {"precision": {"32": "32-true", "bf16": "bf16-mixed"}.get(plan.precision)}
    if plan.precision == "16":
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        settings = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
    if plan.ranks > 1:
        settings["strategy"] = DDPStrategy(process_group_backend="gloo")
    return Trainer(
        accelerator="cpu",
        devices=plan.ranks,
        max_steps=STEPS * (2 if plan.optimizer == "manual" else 1),
        accumulate_grad_batches=plan.accumulate,
        logger=sink,
        log_every_n_steps=1,
        enable_checkpointing=plan.logger != "disk full",
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=callbacks,
        **settings,
    )


def quiet() -> None:
    """Lets nobody but us speak."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def unharmed(plan: Plan) -> Plan:
    """The same run in which nobody dies."""
    return replace(plan, death=None)
