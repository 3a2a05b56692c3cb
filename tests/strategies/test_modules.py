# SPDX-License-Identifier: Apache-2.0
"""Precisions, and modules that are wrapped, tied, compiled, frozen or grown, with two processes where that matters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, NormClip, VanishingDetector
from tests.strategies.cases import CASES, SINGLE, Case, fsdp1, mesh_of
from tests.strategies.harness import launch
from tests.strategies.nets import Memory, Net, Seen, fit, loader

pytestmark = pytest.mark.ddp

DDP = Case("ddp", 2, lambda: DDPStrategy(process_group_backend="gloo", find_unused_parameters=True))
FSDP2 = next(case for case in CASES if case.name == "fsdp2")
BOTH = pytest.mark.parametrize("case", [DDP, FSDP2], ids=lambda case: case.name)


def watched() -> list[Any]:
    return [GradientNormLogger(), ExplosionDetector(), VanishingDetector(), AdaptiveClipper(NormClip(max_norm=0.5))]


def runs(
    case: Case, module: Callable[[], Any], callbacks: Callable[[], list[Any]] = watched, **settings: Any
) -> list[Seen]:
    """What each rank saw of a fit of `module`."""

    def work() -> Seen:
        pl.seed_everything(3, verbose=False)
        return fit(
            module(),
            callbacks(),
            case.make(),
            ranks=case.ranks,
            **{key: value() if callable(value) else value for key, value in settings.items()},
        )

    return launch(case.ranks, work)


def same_as_one_process(case: Case, module: Callable[[], Any], rel: float = 1e-6, **settings: Any) -> Seen:
    """Asserts that a fit shows on every rank what it shows in one process, and returns that."""
    (gold,) = runs(SINGLE, module, **settings)
    assert gold.error is None
    for record in runs(case, module, **settings):
        assert record.error is None
        for step, row in gold.rows.items():
            norms = {tag: value for tag, value in row.items() if tag.startswith("grad_norm/")}
            assert {tag: record.rows[step][tag] for tag in norms} == pytest.approx(norms, rel=rel), step
    return gold


def scaler() -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**14))


@pytest.mark.parametrize(
    ("settings", "rel"),
    [
        ({"precision": "64-true"}, 1e-12),
        ({"precision": "bf16-mixed"}, 0.05),
        ({"precision": "bf16-true"}, 0.05),
        ({"plugins": scaler}, 0.02),
    ],
    ids=["64-true", "bf16-mixed", "bf16-true", "16-mixed"],
)
def test_each_precision_has_the_norms_of_one_process(settings, rel):
    same_as_one_process(DDP, Net, rel, **settings)


class Summing(pl.LightningModule):
    """The gradient of 1,000 weights is `entry` in each."""

    def __init__(self, entry: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.w, self.entry = nn.Linear(1000, 2, bias=False, dtype=dtype), entry

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, type(FSDP2.make())):
            from torch.distributed.fsdp import fully_shard

            for module in (self.w, self):
                fully_shard(module, mesh=mesh_of(self)["data_parallel"])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.w(torch.full((1, 1000), self.entry, dtype=self.w.weight.dtype)).sum()
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@BOTH
@pytest.mark.parametrize("entry", [1e30, 1e-30])
def test_entries_whose_squares_leave_float32_are_no_fault(case, entry):
    for record in runs(case, lambda: Summing(entry), lambda: [GradientNormLogger(), ExplosionDetector()], batches=2):
        assert record.error is None
        assert record.events == []
        assert record.rows[0]["grad_norm/total"] == pytest.approx(entry * 2000**0.5, rel=1e-5)


def test_bf16_gradients_are_summed_in_float32():
    record, _ = runs(DDP, lambda: Summing(1.0, torch.bfloat16), lambda: [GradientNormLogger()], batches=1)
    assert record.rows[0]["grad_norm/total"] == pytest.approx(2000**0.5, rel=1e-6)  # bf16 itself stops counting at 256


class Grown(Net):
    """`c` is unused on even steps, `b` is frozen until step 4, a layer joins the optimizer at step 6."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(1, 1)
        self.b.requires_grad_(False)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 4:
            self.b.requires_grad_(True)
        if batch_idx == 6:
            self.trainer.optimizers[0].add_param_group({"params": list(self.late.parameters()), "lr": 0.05})

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = batch[0][self.global_rank :: self.trainer.world_size]
        y = torch.tanh(self.b(self.norm(torch.tanh(self.a(x)))))
        return (y if batch_idx % 2 == 0 else self.late(self.c(y))).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for name, p in self.named_parameters() if "late" not in name], lr=0.05)


def test_unused_unfrozen_and_added_parameters_are_followed():
    gold = same_as_one_process(SINGLE, Grown)
    assert "grad_norm/b" not in gold.rows[3]
    assert gold.rows[4]["grad_norm/b"] > 0
    assert (gold.rows[5].get("grad_norm/late"), gold.rows[7]["grad_norm/late"] > 0) == (None, True)
    assert gold.rows[4]["grad_norm/c"] == 0.0


class Tied(Net):
    """An encoder and a decoder that share a matrix; compiled or checkpointed in between."""

    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 12)
        self.b.weight = self.a.weight
        self.norm, self.c = nn.LayerNorm(12), wrap(nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)))


def checkpointed(module: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    return checkpoint_wrapper(module)


def compiled(module: Any) -> Any:
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")  # the compiler looks at everything
    return torch.compile(module, backend="eager")


@pytest.mark.parametrize("wrap", [nn.Identity, checkpointed, compiled], ids=lambda wrap: wrap.__name__)
def test_wrapped_and_tied_modules_keep_the_names_that_the_user_gave(wrap):
    gold = same_as_one_process(DDP, lambda: Tied((lambda m: m) if wrap is nn.Identity else wrap))
    layers = [tag.removeprefix("grad_norm/") for tag in gold.rows[0] if tag.startswith("grad_norm/")]
    assert layers == ["total", "total_clipped", "a", "norm", "b", "c.0", "c.2"]


def test_lbfgs_under_ddp_is_as_in_one_process():
    class WithLBFGS(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    same_as_one_process(DDP, WithLBFGS, 1e-4, callbacks=lambda: [GradientNormLogger(), ExplosionDetector()])


def test_a_rank_that_logs_nothing_holds_nobody_up():
    def work() -> int:
        pl.seed_everything(3, verbose=False)
        memory = Memory()
        trainer = pl.Trainer(
            accelerator="cpu",
            strategy=fsdp1(),
            devices=2,
            logger=memory,
            max_epochs=1,
            log_every_n_steps=1,
            callbacks=watched(),
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if trainer.global_rank:
            trainer.loggers = []
        trainer.fit(Net(), loader(3))
        return len(memory.rows)

    assert launch(2, work) == [3, 0]
