# SPDX-License-Identifier: Apache-2.0
"""What the five callbacks add to a step, beside ``gradient_clip_val``: ``python -m benchmarks.overhead``.

The variants run in turn, and ratios are taken round by round: a machine that changes its speed changes both sides.
"""

from __future__ import annotations

import logging
import time
import warnings
from statistics import median

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.ours import five

CASES = {  # layers, width, batch, steps
    "20 tensors, 0.08 M parameters": (10, 64, 64, 200),
    "600 tensors, 0.3 M parameters": (300, 32, 32, 60),
    "24 tensors, 13 M parameters": (12, 1040, 512, 40),
}
ROUNDS, WARM_UP = 5, 20


class Deep(LightningModule):
    """Linear layers with ReLU, trained by AdamW."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*(layer for _ in range(layers) for layer in (nn.Linear(width, width), nn.ReLU())))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The mean square."""
        loss: Tensor = self.net(batch[0]).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


class Clock(Callback):
    """The time at which each batch starts."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        """Looks at the clock."""
        self.starts.append(time.perf_counter())


def step_time(case: str, callbacks: list[Callback], clip: float | None = None) -> float:
    """Milliseconds of the median step."""
    layers, width, batch, steps = CASES[case]
    torch.manual_seed(0)
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[*callbacks, clock],
        gradient_clip_val=clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = TensorDataset(torch.randn(batch, width).repeat(steps, 1))
    trainer.fit(Deep(layers, width), DataLoader(data, batch_size=batch))
    return 1000 * median(b - a for a, b in zip(clock.starts[WARM_UP:], clock.starts[WARM_UP + 1 :], strict=False))


def main() -> None:
    """Prints the table."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning_gradwatch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {ROUNDS} rounds: median (min to max)\n")
    print("| case | bare step | `gradient_clip_val=1.0` | five callbacks |\n|---|---|---|---|")
    for case in CASES:
        rounds = [(step_time(case, []), step_time(case, [], clip=1.0), step_time(case, five())) for _ in range(ROUNDS)]
        ratios = zip(*((clipped / bare, ours / bare) for bare, clipped, ours in rounds), strict=True)
        cells = [f"x{median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios]
        print(f"| {case} | {median(bare for bare, _, _ in rounds):.1f} ms | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
