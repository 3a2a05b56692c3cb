# SPDX-License-Identifier: Apache-2.0
"""An LSTM reads text a hundred bytes long; its gradient explodes on the way back through time, and is clipped.

Real text: the manual of the Python language that comes with every Python, byte by byte. SGD with a learning rate that
is as high as many would try at first. `AdaptiveClipper` bounds what a step may move, learns from the run
what is usual, and needs no limit of yours.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pydoc_data.topics import topics

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_gradwatch import default_callbacks

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # no list of devices, no tips
warnings.simplefilter("ignore")  # no advice on the number of workers
torch.set_num_threads(1)  # the network is too small to share

LENGTH, BATCH = 100, 16


class Reader(pl.LightningModule):
    """Guesses the next byte."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(128, 32), nn.LSTM(32, 64, batch_first=True), nn.Linear(64, 128)
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The cross entropy."""
        text = batch[0]
        states, _ = self.lstm(self.embed(text[:, :-1]))
        loss = nn.functional.cross_entropy(self.head(states).flatten(0, 1), text[:, 1:].flatten())
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """A learning rate of 2 would do."""
        return torch.optim.SGD(self.parameters(), lr=10.0, momentum=0.9)


def train(name: str, callbacks: list[pl.Callback], max_steps: int) -> str:
    """Trains; returns one row of the table."""
    pl.seed_everything(0, verbose=False)
    text = torch.tensor(list("".join(topics.values()).encode())).clamp(max=127)
    data = TensorDataset(text[: len(text) // LENGTH * LENGTH].view(-1, LENGTH))
    model = Reader()
    trainer = pl.Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        callbacks=callbacks,
        logger=TensorBoardLogger("runs", name=f"lstm/{name}"),
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, batch_size=BATCH, shuffle=True))
    last = model.losses[-20:]
    return f"{name:<12}{max(model.losses):<13.1f}{sum(last) / len(last):.2f}"


def main() -> None:
    """Trains twice and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-steps", type=int, default=120)
    steps = parser.parse_args().max_steps
    bare = train("bare", [], steps)
    rescued = train("gradwatch", default_callbacks(rescue=True), steps)
    print(f"\n{'run':<12}{'worst loss':<13}last loss\n{bare}\n{rescued}")
    print("\nSee how often it was clipped, and by how much (grad_clip/rate, factor):  tensorboard --logdir runs/lstm")


if __name__ == "__main__":
    main()
