# SPDX-License-Identifier: Apache-2.0
"""A network explodes to NaN, then trains on the same bad data with the five callbacks.

Real data: the 1,797 handwritten digits that scikit-learn brings along. Four of the images for training were never
scaled: their pixels are a million times too large. Nothing in the data is NaN or infinite. Without help the batch that
holds them throws the weights so far off that the next steps overflow, and from then on everything is NaN.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # no list of devices, no tips
warnings.simplefilter("ignore")  # no advice on the number of workers
torch.set_num_threads(1)  # the network is too small to share


def load() -> tuple[TensorDataset, TensorDataset]:
    """Images [N, 1, 8, 8] in [0, 1] and labels [N] in random order, for training and for testing; four are corrupt."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 16
    labels = torch.tensor(digits.target)[order]
    images[100:104] *= 1e6
    return TensorDataset(images[:1437], labels[:1437]), TensorDataset(images[1437:], labels[1437:])


class Digits(pl.LightningModule):
    """A small convolutional network, trained by SGD with momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 16, kernel_size=3, padding=1), nn.LeakyReLU()),
            *(nn.Conv2d(16, 32, kernel_size=3, padding=1, stride=2), nn.LeakyReLU(), nn.Flatten()),
            *(nn.Linear(32 * 4 * 4, 64), nn.LeakyReLU(), nn.Linear(64, 10)),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The cross entropy."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with the momentum that most use."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def train(name: str, callbacks: list[pl.Callback], seed: int = 0) -> list[str]:
    """Trains for 12 epochs; returns one row of the table."""
    pl.seed_everything(seed, verbose=False)
    training, testing = load()
    model = Digits()
    trainer = pl.Trainer(
        max_epochs=12,
        accelerator="cpu",
        callbacks=callbacks,
        logger=TensorBoardLogger("runs", name=f"explosion/{name}"),
        log_every_n_steps=5,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(training, batch_size=32))
    images, labels = testing.tensors
    accuracy = (model.net(images).argmax(dim=1) == labels).float().mean()
    finite = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    detectors = [c for c in callbacks if isinstance(c, (ExplosionDetector, VanishingDetector))]
    found = Counter(e.kind.value for d in detectors for e in d.events if e.severity != "info")
    events = ", ".join(f"{count} {kind}" for kind, count in found.items()) or "none"
    loss = trainer.callback_metrics["train_loss"]
    return [name, f"{trainer.global_step}", f"{loss:.3f}", f"{accuracy:.1%}", "all finite" if finite else "NaN", events]


def main() -> None:
    """Trains twice and prints the table."""
    header = ["run", "steps", "last loss", "test accuracy", "weights", "events"]
    bare = train("bare", [])
    rescued = train(
        "gradwatch",
        [GradientNormLogger(), ExplosionDetector(), VanishingDetector(), AdaptiveClipper(), LRDecay(gamma=0.9)],
    )
    print()
    for row in (header, bare, rescued):
        print("".join(f"{cell:<15}" for cell in row).rstrip())
    print("\nSee the curves:  tensorboard --logdir runs/explosion")


if __name__ == "__main__":
    main()
