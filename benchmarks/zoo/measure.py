# SPDX-License-Identifier: Apache-2.0
"""One run and seed: bare for the label, and with callbacks."""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from contextlib import suppress
from functools import lru_cache
from math import isfinite
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader
from typing_extensions import override

from benchmarks.ours import five
from benchmarks.zoo.compose import Spec, find
from benchmarks.zoo.core import Learner, Run
from benchmarks.zoo.label import Outcome, proven
from lightning_gradwatch import (
    ExplosionDetector,
    GradientEvent,
    GradientExplosionError,
    GradientNormLogger,
    VanishingDetector,
    VanishingGradientError,
)

Result = dict[str, Any]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def watch() -> list[Callback]:
    """The detectors at their defaults, and the logger that users run beside them."""
    return [GradientNormLogger(), ExplosionDetector(), VanishingDetector()]


CALLBACKS = {"watch": watch, "five": five}


class Listener(Callback):
    """Keeps all events, by the public way to hear them."""

    def __init__(self) -> None:
        self.events: list[GradientEvent] = []

    def on_gradient_event(self, trainer: Trainer, pl_module: LightningModule, event: GradientEvent) -> None:
        """Keeps one."""
        self.events.append(event)


class Losses(Callback):
    """Keeps the loss of each batch."""

    def __init__(self) -> None:
        self.curve: list[float] = []

    @override
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Learner)
        self.curve.append(pl_module.loss_seen)


def prepare() -> None:
    """One thread, and silence: with this many runs, messages would hide what matters."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_gradwatch"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # it wants the norms that some transformers here do without


def train(run: Run, callbacks: list[Callback]) -> str:
    """Trains a run to its end and returns a fingerprint of the weights."""
    # torch takes any sequence for a data set, and types only its own class.
    loader: DataLoader[Any] = DataLoader(run.task.batches, batch_size=None)  # type: ignore[arg-type]
    options = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, **QUIET, **run.trainer}
    with suppress(GradientExplosionError, VanishingGradientError):  # a detector may end a sick run
        pl.Trainer(**options, callbacks=[*run.callbacks, *callbacks]).fit(Learner(run), loader)
    return fingerprint(run)


def fingerprint(run: Run) -> str:
    """Of all weights and buffers."""
    digest = hashlib.sha256()
    for value in run.net.state_dict().values():
        digest.update(value.detach().double().contiguous().numpy().tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=64)
def ended(name: str, seed: int) -> tuple[Outcome, str]:
    """How the bare run ends, and a fingerprint of it."""
    run, losses = find(name).build(seed), Losses()
    start = min(run.score(), run.task.blind)
    before = {n: p.detach().clone() for n, p in run.net.named_parameters()}
    weights = train(run, [losses])
    moved = frozenset(n for n, p in run.net.named_parameters() if not torch.equal(before[n], p))
    bad = next((i for i, loss in enumerate(losses.curve) if not isfinite(loss)), None)
    return Outcome(start, run.score(), moved, bad, len(losses.curve), run.layer, run.onset), weights + repr(
        losses.curve
    )


def watched(spec: Spec, seed: int, callbacks: str) -> tuple[list[GradientEvent], str]:
    """What is said of a run, and a fingerprint of it."""
    listener, losses, run = Listener(), Losses(), spec.build(seed)
    weights = train(run, [*CALLBACKS[callbacks](), listener, losses])
    return listener.events, weights + repr(losses.curve)


def measure(name: str, seed: int, callbacks: str = "watch") -> Result:
    """Everything that the tables need of one run; plain types only."""
    prepare()
    spec, start = find(name), time.perf_counter()
    sound, _ = ended(spec.twin.name, seed)
    outcome, before = ended(name, seed)
    holds, words = proven(spec, sound, outcome)
    result: Result = {"name": name, "seed": seed, "row": spec.row, "sick": spec.sick, "proven": holds, "outcome": words}
    result |= {"layer": outcome.layer, "onset": outcome.onset, "steps": outcome.steps, "bad_step": outcome.bad_step}
    result |= {"events": [], "changed": False}
    if holds:
        try:
            events, after = watched(spec, seed, callbacks)
            # Judged by the effect, not by what the events claim: an untouched run is bit-identical.
            result |= {"events": [event.to_dict() for event in events], "changed": after != before}
        except Exception as error:  # a crash of ours is what this benchmark is there to find: it is reported, by name
            result |= {"error": f"{type(error).__name__}: {error}", "changed": True}
    return result | {"seconds": round(time.perf_counter() - start, 2)}
