# SPDX-License-Identifier: Apache-2.0
"""A vision transformer of timm on scikit-learn's digits, at a sound rate and at a hundred times it."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import timm
import torch
from pytorch_lightning import LightningModule
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from benchmarks.gpu.device import DEVICE, IS_CUDA, loader, sized
from benchmarks.overhead.steps import BARE, CLIP, OURS, Variant, trainer_of
from lightning_gradwatch import ExplosionDetector

SOUND, STEPS, BATCH, SEEDS = 1e-3, sized(250, 3), 128, sized(2, 1)


class ViT(LightningModule):
    """ViT-Tiny on pictures of 8 x 8, in patches of 2 x 2."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.net = timm.create_model(
            "vit_tiny_patch16_224", img_size=8, patch_size=2, in_chans=1, num_classes=10, depth=sized(12, 2)
        )
        self.lr = lr

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Optimizer:
        """AdamW."""
        return AdamW(self.parameters(), lr=self.lr)


def one(variant: Variant, lr: float, seed: int) -> tuple[float, float, str]:
    """Loss and accuracy on held-back digits, and what was seen first."""
    torch.manual_seed(seed)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    y = torch.tensor(labels)
    order = torch.randperm(len(x))
    train, test = order[:1400], order[1400:]
    picks = [train[torch.randint(len(train), (BATCH,))] for _ in range(STEPS)]
    module, callbacks = ViT(lr), variant.callbacks()
    trainer = trainer_of(
        callbacks,
        accelerator="gpu" if IS_CUDA else "cpu",
        devices=1,
        precision="bf16-mixed",
        **dict(variant.settings),
    )
    trainer.fit(module, loader([[x[pick], y[pick]] for pick in picks]))
    module.eval().to(DEVICE)
    with torch.no_grad():
        logits = module.net(x[test].to(DEVICE)).float().cpu()
    loss = float(nn.functional.cross_entropy(logits, y[test]))
    events = [event for c in callbacks if isinstance(c, ExplosionDetector) for event in c.events]
    return loss, float((logits.argmax(1) == y[test]).float().mean()), events[0].kind if events else "none"


def lines() -> Iterator[str]:
    """One row per method."""
    yield f"**ViT-Tiny (timm {timm.__version__}) on digits**, AdamW, {STEPS} steps, bf16-mixed, {SEEDS} seeds: median\n"
    yield "| | rate | loss on held-back digits | accuracy | first event |\n|---|---|---|---|---|"
    for variant, lr in ((BARE, SOUND), (OURS, SOUND), (BARE, 100 * SOUND), (CLIP, 100 * SOUND), (OURS, 100 * SOUND)):
        runs = [one(variant, lr, seed) for seed in range(SEEDS)]
        losses, accuracies, kinds = zip(*runs, strict=True)
        span = f"{median(losses):.3g} ({min(losses):.3g} to {max(losses):.3g})"
        first = ", ".join(sorted(set(kinds)))
        yield f"| {variant.name} | {lr:g} | {span} | {100 * median(accuracies):.0f} % | {first} |"
