# SPDX-License-Identifier: Apache-2.0
"""A GPT of 124 M parameters in bf16 on one CUDA device: ``python -m benchmarks.overhead.gpu``. Not run on a GPU yet.

Prints bare steps against `gradient_clip_val` and the five callbacks, and how often a step made the host wait.
"""

from __future__ import annotations

import logging
import re
import warnings
from statistics import median

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.overhead.single import spread
from benchmarks.overhead.steps import BARE, CLIP, OURS, Variant, trainer_of

VOCABULARY, WIDTH, HEADS, LAYERS, LENGTH, BATCH = 50_257, 768, 12, 12, 1024, 8
STEPS, WARM_UP, ROUNDS, COUNTED = 60, 20, 5, 20


class GPT(LightningModule):
    """GPT-2 small: causal transformer blocks, with tied embeddings."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.fused = fused

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of the next token."""
        tokens = batch[0]
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH, device=tokens.device)
        x = self.tokens(tokens) + self.places.weight
        hidden = self.blocks(x, mask=mask, is_causal=True)
        logits = hidden @ self.tokens.weight.T
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())

    def configure_optimizers(self) -> Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=self.fused)


class DeviceClock(Callback):
    """Milliseconds of each step on the device, measured by events that nobody waits for."""

    def __init__(self) -> None:
        self._marks: list[torch.cuda.Event] = []

    def on_train_batch_start(self, *_: object) -> None:
        """Sets a mark in the stream."""
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types for it
        mark.record()
        self._marks.append(mark)

    @property
    def steps(self) -> list[float]:
        """All of them."""
        torch.cuda.synchronize()
        return [a.elapsed_time(b) for a, b in zip(self._marks, self._marks[1:], strict=False)]


class SyncDebug(Callback):
    """Has torch warn of each forced synchronisation of the last steps."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Switches it on once everything is warm, and off before the end."""
        if batch_idx in (WARM_UP, WARM_UP + COUNTED):
            torch.cuda.set_sync_debug_mode("warn" if batch_idx == WARM_UP else "default")


def fit(variant: Variant, further: list[Callback], *, fused: bool) -> None:
    """One run."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randint(VOCABULARY, (BATCH, LENGTH)).repeat(STEPS, 1))
    trainer = trainer_of(
        [*variant.callbacks(), *further],
        accelerator="gpu",
        devices=1,
        precision="bf16-mixed",
        **dict(variant.settings),
    )
    trainer.fit(GPT(fused=fused), DataLoader(data, batch_size=BATCH, pin_memory=True))


def step_time(variant: Variant) -> float:
    """Milliseconds of the median step, with a fused optimizer where Lightning lets it be clipped."""
    clock = DeviceClock()
    fit(variant, [clock], fused=True)
    return median(clock.steps[WARM_UP:])


def syncs(variant: Variant, *, fused: bool) -> float:
    """Forced synchronisations per step."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(variant, [SyncDebug()], fused=fused)
    return sum(bool(re.search("synchroniz", str(w.message))) for w in caught) / COUNTED


def main() -> None:
    """Prints the table."""
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a CUDA device, and torch sees none here.")
    for name in ("pytorch_lightning", "lightning_gradwatch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    variants = (BARE, CLIP, OURS)
    rounds = [[step_time(variant) for variant in variants] for _ in range(ROUNDS)]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {ROUNDS} rounds of {STEPS - WARM_UP} steps\n")
    print("| | step | of bare | of `gradient_clip_val` | syncs, fused | syncs, not fused |\n|---|---|---|---|---|---|")
    for i, variant in enumerate(variants):
        ratios = [spread([row[i] / row[k] for row in rounds]) for k in (0, 1)]
        waits = [f"{syncs(variant, fused=fused):.2f}" for fused in (True, False)]
        print(f"| {variant.name} | {median(row[i] for row in rounds):.1f} ms | {' | '.join([*ratios, *waits])} |")


if __name__ == "__main__":
    main()
