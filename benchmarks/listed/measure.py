# SPDX-License-Identifier: Apache-2.0
"""One configuration and seed: trained bare for the label and the published rules, and again with the detectors."""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader

from benchmarks.listed.case import Case
from benchmarks.listed.label import check
from benchmarks.listed.outcome import FaultCheck, Progress
from benchmarks.listed.recorder import Recorder
from benchmarks.listed.tasks import Run
from benchmarks.listed.watcher import Listener, detectors
from lightning_gradwatch import GradientExplosionError, VanishingGradientError

Result = dict[str, Any]
Fingerprint = tuple[str, str]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def measure(case: Case, seed: int) -> Result:
    """Everything that the tables need of one run; plain types only."""
    prepare()
    start = time.perf_counter()
    result, before = bare(case, seed)
    middle = time.perf_counter()
    try:
        result["events"], after = watched(case.build(seed))
        # Judged by the effect, not by what the events claim: an untouched run is bit-identical.
        result["changed"] = after != before
    except Exception as error:  # a crash of ours is what this benchmark is there to find: it is reported, by name
        result |= {"error": f"{type(error).__name__}: {error}", "events": [], "changed": True}
    seconds = {"bare": middle - start, "watched": time.perf_counter() - middle}
    return result | {"seconds": {name: round(value, 2) for name, value in seconds.items()}}


def prepare() -> None:
    """One thread, and silence: with this many runs, messages would hide what matters."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_gradwatch"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    torch.set_num_threads(1)


def bare(case: Case, seed: int) -> tuple[Result, Fingerprint]:
    """The run without detectors: its outcome, whether that agrees with the label, what published rules say."""
    progress, recorder = Progress(), Recorder()
    fault = FaultCheck(case.fault[1], case.onset) if case.fault else None
    end = train(case.build(seed), [progress, recorder, *([fault] if fault else [])])
    label_ok, outcome = check(case, progress.curve, progress.bad_step, fault)
    result = {
        "case": case.name,
        "seed": seed,
        "sick": case.sick,
        "half": case.half,
        "steps": recorder.steps,
        "label_ok": label_ok,
        "outcome": outcome,
        "bad_step": progress.bad_step,
        "alarms": recorder.alarms,
    }
    return result, (end, repr(progress.curve))


def watched(run: Run) -> tuple[list[dict[str, Any]], Fingerprint]:
    """The run with the detectors: what they say, and a fingerprint of losses and weights."""
    listener, progress = Listener(), Progress()
    end = train(run, [*detectors(), listener, progress])
    return listener.events, (end, repr(progress.curve))


def train(run: Run, callbacks: list[Callback]) -> str:
    """Trains a run to its end and returns a fingerprint of the weights."""
    # torch takes any sequence for a data set, and types only its own class.
    loader: DataLoader[Any] = DataLoader(run.batches, batch_size=None)  # type: ignore[arg-type]
    options = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, **QUIET, **run.trainer}
    with suppress(GradientExplosionError, VanishingGradientError):  # a detector may end a sick run
        pl.Trainer(**options, callbacks=callbacks).fit(run.module, loader)
    digest = hashlib.sha256()
    for value in run.module.state_dict().values():
        digest.update(value.detach().double().contiguous().numpy().tobytes())
    return digest.hexdigest()
