# SPDX-License-Identifier: Apache-2.0
"""One GPU: the numbers of a CPU, no hidden synchronisation, fp16, fused optimizers, sharding over one rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn

from benchmarks.gpu.device import IS_CUDA, loader
from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    NormClip,
    Rewind,
    VanishingDetector,
)
from tests.strategies.cases import fsdp1

ACCELERATOR = "gpu" if IS_CUDA else "cpu"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU"),
    pytest.mark.skipif(
        IS_CUDA and not torch.cuda.is_available(),
        reason="checks streams, waits and pinned memory of a CUDA device; tests/test_gpu_script.py tries them on a CPU",
    ),
]


class Net(pl.LightningModule):
    """Regression of batches that lie on the device."""

    def __init__(self, fused: bool = True, factors: dict[int, float] | None = None) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 33), nn.Linear(33, 1)
        self.fused, self.factors = fused, factors or {}

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            from torch.distributed.fsdp import fully_shard

            assert self.device_mesh is not None
            for layer in (self.a, self.b, self):
                fully_shard(layer, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.b(torch.tanh(self.a(batch))).square().mean()
        return loss * self.factors.get(batch_idx, 1.0)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01, fused=self.fused)


class Norms(pl.Callback):
    """The totals that were published, step by step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.seen += [float(v) for k, v in trainer.callback_metrics.items() if k == "grad_norm/total"]


def fit(module: Net, callbacks: list[Any], accelerator: str = ACCELERATOR, **settings: Any) -> pl.Trainer:
    """Eight steps on the same data."""
    pl.seed_everything(0, verbose=False)
    device = "cuda" if accelerator == "gpu" else "cpu"
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(16, 12, generator=generator).to(device) for _ in range(8)]
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=1,
        log_every_n_steps=1,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )
    trainer.fit(module, loader(batches))
    return trainer


def norms(accelerator: str = ACCELERATOR, fused: bool = True, **settings: Any) -> list[float]:
    pl.seed_everything(3, verbose=False)
    kept = Norms()
    fit(Net(fused), [GradientNormLogger(), AdaptiveClipper(NormClip(max_norm=0.1)), kept], accelerator, **settings)
    return kept.seen


def sync_debug_mode(mode: str) -> None:
    if IS_CUDA:
        torch.cuda.set_sync_debug_mode(mode)


class Strict(pl.Callback):
    """Allows no synchronisation from the third optimizer step on, once everything is set up."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            sync_debug_mode("error")
        elif trainer.global_step == 7:  # what Lightning does at the end of a fit is not ours
            sync_debug_mode("default")


@pytest.mark.parametrize(
    ("settings", "fused", "rel"),
    [
        ({}, True, 1e-3),
        ({}, False, 1e-3),
        ({"precision": "bf16-mixed"}, True, 0.05),
        ({"precision": "16-mixed"}, True, 0.02),
        ({"precision": "16-mixed"}, False, 0.02),
    ],
)
def test_the_norms_are_those_of_a_cpu(settings, fused, rel):
    seen, expected = norms(fused=fused, **settings), norms("cpu", fused=False)
    waits = not fused and settings.get("precision") != "16-mixed"  # for the numbers, before it lets a step be taken
    late = 1 if IS_CUDA and not waits else 0
    assert seen[-3:] == pytest.approx(expected[-3 - late : len(expected) - late], rel=rel)


@pytest.mark.parametrize(
    "callbacks",
    [
        lambda: [ExplosionDetector(nonfinite="warn"), VanishingDetector()],
        lambda: [ExplosionDetector(), AdaptiveClipper()],
    ],
    ids=["watching", "clipping and skipping, fused"],
)
def test_a_default_step_does_not_wait_for_the_device(callbacks):
    try:
        fit(Net(), [*callbacks(), Strict()])
    finally:
        sync_debug_mode("default")


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_nan_never_reaches_the_weights(precision, fused):
    module, detector = Net(fused, {3: float("nan")}), ExplosionDetector()
    fit(module, [detector], precision=precision)
    assert all(bool(p.isfinite().all()) for p in module.parameters())
    assert [event.kind for event in detector.events][:1] == ["nonfinite"]


@pytest.mark.parametrize("fused", [True, False])
def test_an_overflow_under_fp16_is_calibration_and_no_event(fused):
    detector = ExplosionDetector()
    module = Net(fused, {3: 1e6})
    fit(module, [detector], precision="16-mixed")
    assert all(bool(p.isfinite().all()) for p in module.parameters())
    assert "nonfinite" not in [event.kind for event in detector.events]


@pytest.mark.parametrize(
    "make",
    [
        lambda: FSDPStrategy(auto_wrap_policy={nn.Linear}) if IS_CUDA else fsdp1(),
        lambda: ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1, save_distributed_checkpoint=False),
    ],
    ids=["fsdp1", "fsdp2"],
)
@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`")  # nothing to cut; FSDP2 shards all the same
def test_sharding_over_one_rank_changes_no_number(make: Callable[[], Any]):
    assert norms(strategy=make()) == pytest.approx(norms(), rel=1e-4)


@pytest.mark.parametrize(("settings", "fused"), [({}, True), ({}, False), ({"precision": "16-mixed"}, False)])
def test_a_rewind_puts_back_what_lay_in_pinned_memory(settings, fused):
    class Ruin(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[Tensor] = []
            self.pinned = False

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 5:
                assert back._generations is not None
                self.pinned = all(t.is_pinned() for t in back._generations.good.kept._tree["module"].values())
                pl_module.a.weight.data.fill_(torch.nan)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            moments = [state["exp_avg"] for state in trainer.optimizers[0].state.values()]
            self.seen.append(torch.cat([t.detach().flatten() for t in (*pl_module.parameters(), *moments)]).clone())

    back, ruin = Rewind(keep_every_n_steps=2, healthy_steps=1), Ruin()
    fit(Net(fused), [ExplosionDetector(), back, ruin], **settings)
    assert ruin.pinned == IS_CUDA
    ((start, end),) = back.rewinds
    assert torch.equal(ruin.seen[start - 1], ruin.seen[end - 1])
