# SPDX-License-Identifier: Apache-2.0
"""Whole steps on one device: GPT-2 small in bf16, and 600 small tensors, where the launches of kernels rule.

With ours, with nothing, and with what else there is. The variants run in turn, and ratios are taken round by round.
"""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from benchmarks.gpu.device import DEVICE, IS_CUDA, StepClock, loader, sized
from benchmarks.overhead.single import spread
from benchmarks.overhead.steps import BARE, CLIP, OTHERS, OURS, Deep, Variant, trainer_of

VOCABULARY, WIDTH, LAYERS = sized(50_257, 100), sized(768, 24), sized(12, 2)
LENGTH, BATCH, HEADS = sized(1024, 16), sized(8, 2), 12
WARM_UP, COUNTED, ROUNDS = sized(6, 3), sized(14, 4), sized(5, 1)
VARIANTS = (BARE, CLIP, OURS, *(other for other in OTHERS if other.name in ("ZClip", "`log_dict(grad_norm(...))`")))


class GPT(LightningModule):
    """GPT-2 small: causal transformer blocks, with tied embeddings; 124 M parameters."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        nn.init.normal_(self.tokens.weight, std=0.02)
        block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.fused = fused

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of the next token."""
        tokens = batch[0]
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH, device=tokens.device)
        hidden = self.blocks(self.tokens(tokens) + self.places.weight, mask=mask, is_causal=True)
        logits = hidden @ self.tokens.weight.T
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())

    def configure_optimizers(self) -> Optimizer:
        """AdamW."""
        return AdamW(self.parameters(), lr=1e-4, fused=self.fused)


@dataclass(frozen=True)
class Case:
    """A network, and one batch that is used over and over.

    Attributes:
        name: In the tables.
        make: The network; its AdamW is fused or not.
        batch: Its one tensor.
    """

    name: str
    make: Callable[[bool], LightningModule]
    batch: Callable[[], Tensor]


GPT2 = Case(
    "GPT-2 small, 124 M parameters", lambda fused: GPT(fused=fused), partial(torch.randint, VOCABULARY, (BATCH, LENGTH))
)
SMALL = Case(
    "600 tensors, 0.6 M parameters",
    lambda fused: Deep(sized(300, 6), 32, fused=fused),
    partial(torch.randn, 32, 32),
)


class CountSyncs(Callback):
    """Has torch warn of each forced synchronisation, once everything is warm."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Switches it on after the warm-up, and off at the last batch."""
        if IS_CUDA and batch_idx in (WARM_UP, WARM_UP + COUNTED):
            torch.cuda.set_sync_debug_mode("warn" if batch_idx == WARM_UP else "default")


def fit(case: Case, variant: Variant, further: list[Callback], *, fused: bool) -> None:
    """One run in bf16-mixed."""
    torch.manual_seed(0)
    with torch.device(DEVICE):
        module, batch = case.make(fused), case.batch()
    trainer = trainer_of(
        [*variant.callbacks(), *further],
        accelerator="gpu" if IS_CUDA else "cpu",
        devices=1,
        precision="bf16-mixed",
        **dict(variant.settings),
    )
    trainer.fit(module, loader([[batch]] * (WARM_UP + COUNTED + 1)))
    gc.collect()


def step_time(case: Case, variant: Variant, *, fused: bool) -> float:
    """Milliseconds of the median step."""
    clock = StepClock()
    fit(case, variant, [clock], fused=fused)
    return median(clock.steps[WARM_UP:])


def syncs(case: Case, variant: Variant, *, fused: bool) -> float:
    """Forced synchronisations per step."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(case, variant, [CountSyncs()], fused=fused)
    return sum(bool(re.search("synchroniz", str(w.message))) for w in caught) / COUNTED


def cost(case: Case, plain: tuple[Variant, ...], fused_too: tuple[Variant, ...] = (BARE, OURS)) -> Iterator[str]:
    """The tables of one case. Under mixed precision, Lightning refuses `gradient_clip_val` beside a fused optimizer."""
    for fused, variants in ((False, plain), (True, fused_too)):
        rounds = [
            {v.name: step_time(case, v, fused=fused) for v in (variants if i % 2 == 0 else variants[::-1])}
            for i in range(ROUNDS)
        ]
        yield f"\n**{case.name}**, bf16-mixed, AdamW(fused={fused}), {ROUNDS} rounds of {COUNTED} steps, interleaved\n"
        yield "| | step | of bare | of `gradient_clip_val` | forced syncs a step |\n|---|---|---|---|---|"
        for variant in variants:
            of = [
                spread([row[variant.name] / row[to.name] for row in rounds]) if to.name in rounds[0] else "refused"
                for to in (BARE, CLIP)
            ]
            own, waits = median(row[variant.name] for row in rounds), syncs(case, variant, fused=fused)
            yield f"| {variant.name} | {own:.2f} ms | {of[0]} | {of[1]} | {waits:.2f} |"


def peak(variant: Variant) -> float:
    """MiB at the highest point of a run; 0 on a CPU, where torch does not count them."""
    gc.collect()
    if IS_CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    fit(GPT2, variant, [], fused=False)
    return torch.cuda.max_memory_allocated() / 2**20 if IS_CUDA else 0.0


def memory() -> Iterator[str]:
    """The peak with and without."""
    yield f"**Peak memory**, {GPT2.name}, bf16-mixed, AdamW\n\n| | MiB | above bare |\n|---|---|---|"
    peak(BARE)  # the first run of a process loads libraries
    bare = peak(BARE)
    for variant in (BARE, CLIP, OURS, BARE):
        own = peak(variant)
        yield f"| {variant.name} | {own:.2f} | {own - bare:+.2f} |"
