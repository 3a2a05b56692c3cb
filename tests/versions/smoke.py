# SPDX-License-Identifier: Apache-2.0
"""The least that must work with every release of Lightning; run by `.ci/versions` with one of them on the path.

A script and no test module: pytest's own plugins and `tests/conftest.py` want the newest release. Takes the namespace.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
namespace = sys.argv[1]
pl: Any = importlib.import_module(namespace)
cli: Any = importlib.import_module(f"{namespace}.cli")
ours: Any = importlib.import_module("lightning_gradwatch")  # after the namespace, whose callbacks they become

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Module(pl.LightningModule):  # type: ignore[misc]  # an argument chooses the namespace: no type at all
    """One matrix; its gradient is as large as the batch says."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """A loss that is no good for anything else."""
        return (self.net(batch[0]) ** 2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """With a state that a resume must bring back."""
        return torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9)

    def train_dataloader(self) -> Any:
        """40 batches of 1; number 25 explodes, number 30 is NaN."""
        x = torch.ones(40, 1)
        x[25], x[30] = 1e4, math.nan
        return DataLoader(TensorDataset(x))


def fit(callbacks: list[Any], epochs: int, **settings: Any) -> tuple[Any, list[Any]]:
    """The Trainer after some epochs, and the weights."""
    torch.manual_seed(0)
    module, trainer = Module(), pl.Trainer(max_epochs=epochs, callbacks=callbacks, **QUIET)
    trainer.fit(module, **settings)
    return trainer, [p.detach().clone() for p in module.parameters()]


def check_all_five() -> None:
    """They belong to the namespace, find what there is to find, and keep the weights whole."""
    callbacks = ours.default_callbacks(rescue=True)
    assert all(isinstance(callback, pl.Callback) for callback in callbacks)
    _, weights = fit(callbacks, 1)
    found = [(e.kind.value, e.step) for e in callbacks[1].events if e.severity is ours.Severity.ALARM]
    assert ("nonfinite", 30) in found, found
    assert any(step == 25 for _, step in found), found
    assert all(bool(weight.isfinite().all()) for weight in weights)


def check_resume(folder: Path) -> None:
    """A resumed run ends as the one in one go."""
    whole, second = ours.default_callbacks(rescue=True), ours.default_callbacks(rescue=True)
    _, weights = fit(whole, 2)
    fit(ours.default_callbacks(rescue=True), 1)[0].save_checkpoint(folder / "a.ckpt")
    torch.load(folder / "a.ckpt", weights_only=True)
    _, again = fit(second, 2, ckpt_path=str(folder / "a.ckpt"))
    assert all(torch.equal(a, b) for a, b in zip(weights, again, strict=True))
    assert [repr(c.state_dict()) for c in whole] == [repr(c.state_dict()) for c in second]


def check_stop() -> None:
    """The run ends at once, with the weights from before."""
    detector = ours.ExplosionDetector(action="stop", max_norm=1e3)
    trainer, _ = fit([detector], 3)
    assert detector.tripped is not None
    assert trainer.global_step == detector.tripped.step == 25


def check_without_code() -> None:
    """GRADWATCH=1 changes nothing but what is seen."""
    _, bare = fit([], 1)
    os.environ["GRADWATCH"] = "1"
    trainer, watched = fit([], 1)
    del os.environ["GRADWATCH"]
    assert sum(type(c).__module__.startswith("lightning_gradwatch") for c in trainer.callbacks) == 4
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(bare, watched, strict=True))


def check_cli(folder: Path) -> None:
    """A YAML file makes the callbacks."""
    (folder / "config.yaml").write_text(
        "trainer:\n  accelerator: cpu\n  logger: false\n  callbacks:\n"
        "    - class_path: lightning_gradwatch.ExplosionDetector\n      init_args: {action: clip, max_norm: 5}\n"
        "    - class_path: lightning_gradwatch.LRDecay\n      init_args: {gamma: 0.98, 'on': [spike]}\n"
    )
    sys.argv = ["train.py", "--config", str(folder / "config.yaml")]
    made = cli.LightningCLI(Module, run=False, save_config_callback=None, seed_everything_default=False)
    assert [c.action for c in made.trainer.callbacks if isinstance(c, ours.ExplosionDetector)] == ["clip"]


with tempfile.TemporaryDirectory() as name:
    check_all_five()
    check_resume(Path(name))
    check_stop()
    check_without_code()
    check_cli(Path(name))
sys.stdout.write(f"{namespace} {pl.__version__}: fit, resume, stop, GRADWATCH=1, CLI\n")
