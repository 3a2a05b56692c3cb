# SPDX-License-Identifier: Apache-2.0
"""Trains with one optimizer in all the ways that the table asks for."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from benchmarks.optimizers.registry import ENTRIES, Entry
from benchmarks.ours import five
from lightning_gradwatch import ExplosionDetector, GradientExplosionError, GradwatchError, Rewind, default_callbacks

EPOCHS, BATCH = 5, 64
FAST = 100.0
SAVED = 1.1
Row = dict[str, Any]


class Classifier(pl.LightningModule):
    """A small network on digits, with a batch of NaN where it is told to."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer], broken: int = -1) -> None:
        super().__init__()
        self.make, self.broken, self.batches = make, broken, 0
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))

    @override
    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        return loss * torch.nan if self.trainer.global_step == self.broken else loss

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make(self.net.parameters())


def data() -> tuple[Tensor, Tensor]:
    """Digits [1797, 64] in [0, 1], and their classes."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)


def train(
    entry: Entry,
    callbacks: list[Any],
    seed: int,
    scale: float = 1.0,
    *,
    broken: int = -1,
    resume: Path | None = None,
    shuffle: bool = True,
    trainer: dict[str, Any] | None = None,
) -> tuple[float, Classifier]:
    """Trains.

    Args:
        entry: With what.
        callbacks: Of the Trainer.
        seed: Of weights and batches.
        scale: Multiplies the learning rate.
        broken: The step whose loss is NaN.
        resume: A checkpoint to go on from.
        shuffle: Whether batches are drawn.
        trainer: Further arguments of the Trainer.

    Returns:
        The loss on all digits, infinite where the run was aborted, and the module.
    """
    x, y = data()
    torch.manual_seed(seed)
    module = Classifier(entry.make(scale), broken)
    settings: dict[str, Any] = {"max_epochs": EPOCHS, "enable_checkpointing": False, "accelerator": "cpu"}
    settings |= {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, **(trainer or {})}
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(x, y), BATCH, shuffle=shuffle, generator=order)
    if entry.matrices:
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.ndim == 2)
    try:
        pl.Trainer(callbacks=callbacks, **settings).fit(module, loader, ckpt_path=resume)
    except GradientExplosionError:
        return math.inf, module
    with torch.no_grad():
        return float(nn.functional.cross_entropy(module.net(x), y)), module


def weights(module: nn.Module) -> Tensor:
    """All weights in one vector."""
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def events(callbacks: list[Any]) -> list[str]:
    """Kinds of all alarms and warnings, but for what only counts our own acts."""
    found = [event for callback in callbacks for event in getattr(callback, "events", [])]
    return sorted({event.kind.value for event in found if event.severity.value != "info"})


def measure(job: tuple[int, int]) -> Row:
    """The row of one optimizer, by its place in the list, over so many seeds."""
    warnings.simplefilter("ignore")
    for name in ("lightning_gradwatch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    entry, seeds = ENTRIES[job[0]], range(job[1])
    row: Row = {"title": entry.title}
    try:
        bare = [train(entry, [], seed) for seed in seeds]
    except Exception as error:  # whatever a package raises on its own is its own
        return row | {"error": f"{type(error).__name__}: {error}".splitlines()[0][:80]}
    try:
        return row | _ours(entry, bare)
    except Exception as error:  # of a package where we act, which is what this is to find; it may not be picklable
        return row | {"error": f"with ours: {type(error).__name__}: {error}".splitlines()[0][:80]}


def _ours(entry: Entry, bare: list[tuple[float, Classifier]]) -> Row:
    watched = train(entry, list(default_callbacks()), 0)
    row: Row = {"watching": torch.equal(weights(watched[1]), weights(bare[0][1]))} | _healthy(entry, bare)
    row |= _fast(entry, bare) if entry.lr is not None else {"found": None, "saved": None, "fast bare": None}
    return row | {"skip": _skip(entry), "resume": _resume(entry), "rewind": _rewind(entry)}


def _healthy(entry: Entry, bare: list[tuple[float, Classifier]]) -> Row:
    ratios, same, kinds = [], [], set[str]()
    for seed, (loss, module) in enumerate(bare):
        callbacks = five()
        ours, trained = train(entry, callbacks, seed)
        ratios.append(ours / loss)
        same.append(torch.equal(weights(trained), weights(module)))
        kinds |= set(events(callbacks))
    return {"ratio": median(ratios), "worst": max(ratios), "same": sum(same) / len(same), "events": sorted(kinds)}


def _fast(entry: Entry, bare: list[tuple[float, Classifier]]) -> Row:
    callbacks, watchers = five(), list(default_callbacks())
    sick = train(entry, watchers, 0, FAST)[0]
    ours = train(entry, callbacks, 0, FAST)[0]
    sound = bare[0][0]
    saved = None if sick <= SAVED * sound else ours <= max(SAVED * sound, sound + 0.1)
    return {"fast bare": sick / sound, "fast five": ours / sound, "found": bool(events(watchers)), "saved": saved}


def _skip(entry: Entry) -> bool:
    """Whether a step that was skipped leaves weights as they were: the run stops right after it."""
    before = weights(train(entry, [], 0, trainer={"max_steps": 9})[1])
    after = weights(train(entry, [ExplosionDetector()], 0, broken=9, trainer={"max_steps": 10})[1])
    return torch.equal(before, after)


def _resume(entry: Entry) -> str:
    """Whether a run that was interrupted after three epochs ends as one that was not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            whole = weights(train(entry, five(), 0, shuffle=False)[1])
            saver = pl.callbacks.ModelCheckpoint(folder, filename="three", every_n_epochs=3, save_top_k=-1)
            half = {"max_epochs": 3, "enable_checkpointing": True}
            train(entry, [*five(), saver], 0, shuffle=False, trainer=half)
            again = weights(train(entry, five(), 0, shuffle=False, resume=next(Path(folder).glob("three*")))[1])
        except Exception as error:  # a state that cannot be saved or loaded is the package's
            return type(error).__name__
    return "same bits" if torch.equal(whole, again) else "differs"


def _rewind(entry: Entry) -> str:
    try:
        train(entry, [ExplosionDetector(), Rewind(keep_every_n_steps=10)], 0, trainer={"max_epochs": 1})
    except GradwatchError:
        return "refused"
    except Exception as error:  # to be listed
        return type(error).__name__
    return "runs"
