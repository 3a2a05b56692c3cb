# SPDX-License-Identifier: Apache-2.0
"""A ResNet is fine-tuned with two mistakes that no loss curve shows, and both are named.

The new head is put in after the optimizer was made, so that the optimizer goes on with the weights of the old one; and
the stem is called under `torch.no_grad()`. The loss falls all the same, since what lies between learns.

Real data: the 1,797 handwritten digits that scikit-learn brings along. Random weights, no downloads.
"""

from __future__ import annotations

import argparse
import logging
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_gradwatch import GradientEvent, GradientNormLogger, VanishingDetector

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # no list of devices, no tips
warnings.simplefilter("ignore")  # no advice on the number of workers
torch.set_num_threads(1)  # the network is too small to share


def conv(inside: int, out: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution and its normalisation."""
    return nn.Sequential(nn.Conv2d(inside, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out))


class Block(nn.Module):
    """The basic block of He et al. (2015, arXiv 1512.03385, figure 2), with a projection where the size changes."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv(inside, out, stride), conv(out, out)
        self.short = nn.Conv2d(inside, out, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, inside, H, W] to [B, out, H / stride, W / stride]."""
        return torch.relu(self.short(x) + self.second(torch.relu(self.first(x))))


class ResNet(pl.LightningModule):
    """A stem, three stages of a block, and a head.

    Args:
        mistaken: Whether it makes the two mistakes.
    """

    def __init__(self, *, mistaken: bool) -> None:
        super().__init__()
        self.stem = conv(1, 16)
        self.stages = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, 1000)
        self.mistaken = mistaken
        if not mistaken:
            self.head = nn.Linear(64, 10)

    def on_fit_start(self) -> None:
        """The first mistake: the optimizer is there already."""
        if self.mistaken:
            self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, 8, 8] to [B, 10]; the second mistake."""
        with torch.set_grad_enabled(not self.mistaken):
            low = torch.relu(self.stem(images))
        logits: Tensor = self.head(self.stages(low).mean(dim=(2, 3)))
        return logits

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The cross entropy."""
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with the momentum that most use."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def train(name: str, *, mistaken: bool, max_steps: int) -> tuple[str, list[GradientEvent]]:
    """Trains; returns one row of the table, and what was found."""
    pl.seed_everything(0, verbose=False)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target))
    detector = VanishingDetector()
    trainer = pl.Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        callbacks=[GradientNormLogger(), detector],
        logger=TensorBoardLogger("runs", name=f"resnet/{name}"),
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(ResNet(mistaken=mistaken), DataLoader(data, batch_size=32, shuffle=True))
    found = [event for event in detector.events if event.severity != "info"]
    kinds = ", ".join(sorted({event.kind.value for event in found})) or "nothing"
    return f"{name:<11}{trainer.callback_metrics['train_loss']:<11.3f}{kinds}", found


def main() -> None:
    """Trains twice and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-steps", type=int, default=160)
    steps = parser.parse_args().max_steps
    mistaken, found = train("mistaken", mistaken=True, max_steps=steps)
    mended, _ = train("mended", mistaken=False, max_steps=steps)
    print(f"\n{'run':<11}{'last loss':<11}found\n{mistaken}\n{mended}\n")
    for line in dict.fromkeys(f"{event.kind.value}: {', '.join(event.layers)}" for event in found):
        print(line)
    print("\nSee the layers:  tensorboard --logdir runs/resnet")


if __name__ == "__main__":
    main()
