# SPDX-License-Identifier: Apache-2.0
"""A GAN under manual optimization: with the loss of the first paper the generator's gradient vanishes, and is told of.

Goodfellow et al. (2014, arXiv 1406.2661, section 3) say so themselves: early in training log(1 - D(G(z))) saturates,
and maximising log D(G(z)) has the same fixed point with much stronger gradients. Both are trained here, on the 1,797
handwritten digits that scikit-learn brings along. Two optimizers: tags end in /opt0 (generator) and /opt1.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, TensorDataset

from lightning_gradwatch import ExplosionDetector, GradientEvent, GradientNormLogger, VanishingDetector

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # no list of devices, no tips
warnings.simplefilter("ignore")  # no advice on the number of workers
torch.set_num_threads(1)  # the network is too small to share

NOISE = 16


class GAN(pl.LightningModule):
    """Images are rows of 64 numbers in [0, 1].

    Args:
        saturating: Whether the generator minimises log(1 - D(G(z))).
    """

    def __init__(self, *, saturating: bool) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.saturating = saturating
        hidden = [nn.Linear(NOISE, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
        self.generator = nn.Sequential(*hidden, nn.Linear(64, 64), nn.Sigmoid())
        judge = [nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*judge, nn.Linear(128, 1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """One step of each; D is the sigmoid of the discriminator's output."""
        optimizers: Any = self.optimizers()
        images, noise = batch[0], torch.randn(len(batch[0]), NOISE)
        made = self.generator(noise).detach()
        judged = softplus(-self.discriminator(images)).mean() + softplus(self.discriminator(made)).mean()
        self.step(optimizers[1], judged)
        believed = self.discriminator(self.generator(noise))
        self.step(optimizers[0], -softplus(believed).mean() if self.saturating else softplus(-believed).mean())

    def step(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        """What Lightning does by itself under automatic optimization."""
        self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """A discriminator that learns faster than the generator."""
        generator = torch.optim.Adam(self.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        return [generator, torch.optim.Adam(self.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))]


def train(name: str, *, saturating: bool, max_steps: int) -> tuple[str, list[GradientEvent]]:
    """Trains; returns one row of the table, and the alarms."""
    pl.seed_everything(0, verbose=False)
    data = TensorDataset(torch.tensor(load_digits().data, dtype=torch.float32) / 16)
    # With two losses there is no progress to judge by, so the limit is absolute.
    detector = VanishingDetector(min_norm=1e-2, patience=20, include="generator.*")
    trainer = pl.Trainer(
        max_steps=2 * max_steps,  # Lightning counts the steps of both
        accelerator="cpu",
        callbacks=[GradientNormLogger(), ExplosionDetector(), detector],
        logger=TensorBoardLogger("runs", name=f"gan/{name}"),
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(GAN(saturating=saturating), DataLoader(data, batch_size=64, shuffle=True))
    norms = [trainer.callback_metrics.get(f"grad_norm/total/opt{i}", torch.nan) for i in (0, 1)]
    alarms = [event for event in detector.events if event.severity == "alarm"]
    found = ", ".join(f"{event.kind.value} at step {event.step}" for event in alarms[:1]) or "nothing"
    return f"{name:<16}{norms[0]:<11.2g}{norms[1]:<15.2g}{found}", alarms


def main() -> None:
    """Trains twice and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-steps", type=int, default=150)
    steps = parser.parse_args().max_steps
    first, _ = train("saturating", saturating=True, max_steps=steps)
    second, _ = train("non-saturating", saturating=False, max_steps=steps)
    print(f"\n{'loss':<16}{'generator':<11}{'discriminator':<15}found\n{first}\n{second}")
    print("\nThe numbers are the norms of the last gradients. See the curves:  tensorboard --logdir runs/gan")


if __name__ == "__main__":
    main()
