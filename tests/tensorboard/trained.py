# SPDX-License-Identifier: Apache-2.0
"""A real run: a residual network that meets two corrupt batches, trained with the five callbacks."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector

STEPS, LOGGED = 240, 5
SPIKE, NAN = 121, 182  # batches; neither is a step that is logged anyway
LAYERS = 3 * 6 + 2


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        return out


class Residual(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Linear(6, 16), nn.Sequential(*(Block() for _ in range(6)))
        self.head = nn.Linear(16, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.head(self.blocks(self.embed(x))), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def train(folder: Path) -> None:
    """Writes the run ``residual/version_0`` into `folder`."""
    torch.manual_seed(0)
    x = torch.randn(STEPS, 8, 6)
    y = x.sum(2, keepdim=True).sin()
    x[SPIKE] *= 1e3
    x[NAN, 0] = float("nan")
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=TensorBoardLogger(folder, name="residual"),
        log_every_n_steps=LOGGED,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            GradientNormLogger(),
            ExplosionDetector(),
            VanishingDetector(),
            AdaptiveClipper(),
            LRDecay(patience=1),
        ],
    )
    trainer.fit(Residual(), DataLoader(TensorDataset(x.flatten(0, 1), y.flatten(0, 1)), batch_size=8))
