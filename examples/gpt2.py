# SPDX-License-Identifier: Apache-2.0
"""A GPT-2 of Hugging Face's transformers with a learning rate a hundred times too high, and what `LRDecay` makes of it.

Random weights, no downloads. Real text: the manual of the Python language that comes with every Python, byte by byte.
AdamW moves every weight by about the learning rate, whatever the gradient, so that no clipping helps: after two steps
some matrices are thirty times their size, and the model never learns more than how frequent each letter is (a loss of
3.3). The detector sees the size of the update, and the learning rate gives way.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pydoc_data.topics import topics
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel

from lightning_gradwatch import ExplosionDetector, GradientNormLogger, LRDecay

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # no list of devices, no tips
warnings.simplefilter("ignore")  # no advice on the number of workers
torch.set_num_threads(1)  # the network is too small to share

LENGTH, BATCH = 32, 8


class GPT2(pl.LightningModule):
    """Two blocks of 32 units, which is GPT-2 in all but size; its tokens are bytes."""

    def __init__(self) -> None:
        super().__init__()
        sizes: dict[str, Any] = {"vocab_size": 256, "n_positions": LENGTH, "n_embd": 32, "n_layer": 2, "n_head": 2}
        self.gpt: Any = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, use_cache=False))
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The cross entropy of the next byte."""
        loss: Tensor = self.gpt(input_ids=batch[0], labels=batch[0]).loss
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """1e-3 would do."""
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def train(name: str, callbacks: list[pl.Callback], max_steps: int) -> str:
    """Trains; returns one row of the table."""
    pl.seed_everything(0, verbose=False)
    text = torch.tensor(list("".join(topics.values()).encode()))
    data = TensorDataset(text[: len(text) // LENGTH * LENGTH].view(-1, LENGTH))
    model = GPT2()
    trainer = pl.Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        callbacks=callbacks,
        logger=TensorBoardLogger("runs", name=f"gpt2/{name}"),
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, batch_size=BATCH, shuffle=True))
    last = model.losses[-20:]
    events = ", ".join(kind for callback in callbacks for kind in getattr(callback, "counts", {})) or "none"
    return f"{name:<12}{sum(last) / len(last):<12.2f}{events}"


def main() -> None:
    """Trains twice and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-steps", type=int, default=120)
    steps = parser.parse_args().max_steps
    # A hundred times too high is more than the defaults make good in so few steps: they halve, and hold an update of
    # Adam to 0.3 of the weights. Here the rate falls to a tenth whenever the updates are found too large.
    decay = LRDecay(on=["update_too_large"], backoff=0.1, hold_steps=1000, min_scale=1e-3, max_update_ratio=None)
    bare = train("bare", [], steps)
    rescued = train("gradwatch", [GradientNormLogger(), ExplosionDetector(), decay], steps)
    print(f"\n{'run':<12}{'last loss':<12}events\n{bare}\n{rescued}")
    print("\nSee the layers:  tensorboard --logdir runs/gpt2")


if __name__ == "__main__":
    main()
