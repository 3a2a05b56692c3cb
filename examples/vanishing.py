# SPDX-License-Identifier: Apache-2.0
"""A deep sigmoid network does not learn; the detector says where the gradient is lost, and its advice is taken.

Real data: the 1,797 handwritten digits that scikit-learn brings along. Each sigmoid passes on at most a quarter of the
gradient, so that after ten of them the first layer gets next to nothing. The second network is as deep and as wide,
but has what the message recommends: ReLU, normalisation and residual connections.
"""

from __future__ import annotations

import logging
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_gradwatch import GradientEvent, GradientNormLogger, Severity, VanishingDetector

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # no list of devices, no tips
warnings.simplefilter("ignore")  # no advice on the number of workers
torch.set_num_threads(1)  # the network is too small to share

DEPTH, WIDTH = 10, 64


class Residual(nn.Module):
    """x + ReLU(linear(norm(x))): the gradient can always pass by."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Any shape [..., WIDTH], which stays."""
        branch: Tensor = self.branch(x)
        return x + branch


def sigmoid_net() -> nn.Sequential:
    """DEPTH sigmoid layers with torch's own initialisation."""
    layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.Sigmoid())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def remedied_net() -> nn.Sequential:
    """The same size, as the message recommends."""
    return nn.Sequential(*(Residual() for _ in range(DEPTH)), nn.Linear(WIDTH, 10))


class Digits(pl.LightningModule):
    """Classifies images [N, 64]."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The cross entropy."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with its usual learning rate."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def train(name: str, net: nn.Sequential) -> tuple[str, list[GradientEvent]]:
    """Trains for 10 epochs; returns one row of the table, and the alarms."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
    labels = torch.tensor(digits.target)[order]
    detector = VanishingDetector()
    trainer = pl.Trainer(
        max_epochs=10,
        accelerator="cpu",
        callbacks=[GradientNormLogger(), detector],
        logger=TensorBoardLogger("runs", name=f"vanishing/{name}"),
        log_every_n_steps=5,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(net), DataLoader(TensorDataset(images[:1437], labels[:1437]), batch_size=32, shuffle=True))
    accuracy = (net(images[1437:]).argmax(dim=1) == labels[1437:]).float().mean()
    loss, factor = (trainer.callback_metrics[tag] for tag in ("train_loss", "grad_depth/factor"))
    alarms = [event for event in detector.events if event.severity is Severity.ALARM]
    found = ", ".join(f"{event.kind.value} at step {event.step}" for event in alarms) or "nothing"
    return f"{name:<10}{loss:<11.3f}{accuracy:<15.1%}x{factor:<19.2f}{found}", alarms


def main() -> None:
    """Trains twice and prints the table."""
    pl.seed_everything(0, verbose=False)
    sick, alarms = train("sigmoid", sigmoid_net())
    remedied, _ = train("remedied", remedied_net())
    print(f"\n{'net':<10}{'last loss':<11}{'test accuracy':<15}{'gradient per layer':<20}alarms")
    print(f"{sick}\n{remedied}")
    for alarm in alarms:
        print(f"\nThe gradient hardly reaches {', '.join(alarm.layers)}.")
    print("\nSee the curves:  tensorboard --logdir runs/vanishing")


if __name__ == "__main__":
    main()
