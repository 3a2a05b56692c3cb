# SPDX-License-Identifier: Apache-2.0
"""Where a communication hook reduces nothing, ranks see different gradients: nobody waits for another in vain."""

from math import nan
from typing import Any

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from lightning_gradwatch import ExplosionDetector, GradientNormLogger, VanishingDetector, default_callbacks
from tests.strategies.harness import launch
from tests.strategies.nets import BATCHES, Net, Seen, fit

pytestmark = pytest.mark.ddp


def keep(state: object, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:  # type: ignore[name-defined]  # torch gives it no type
    """Reduces nothing."""
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


class OneRankBroken(Net):
    """Has a loss that is NaN on rank 1 only."""

    def __init__(self) -> None:
        super().__init__(None, {})

    def on_train_start(self) -> None:
        model: Any = self.trainer.model
        model.register_comm_hook(None, keep)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss * nan if batch_idx == 2 and self.global_rank == 1 else loss


def work(make: Any) -> Seen:
    strategy = DDPStrategy(process_group_backend="gloo")
    return fit(OneRankBroken(), make(), strategy, ranks=2)


@pytest.mark.parametrize("rescue", [False, True])
def test_a_nan_of_one_rank_hangs_nobody(rescue: bool) -> None:
    zero, one = launch(2, lambda: work(lambda: default_callbacks(rescue=rescue)), timeout=90)
    assert (zero.error, one.error) == (None, None)
    assert zero.steps == one.steps == BATCHES
    assert [e[0] for e in one.events if e[1] == "alarm"] == ["nonfinite"]
    assert not zero.events


@pytest.mark.parametrize("action", ["stop", "abort"])
def test_all_end_together_where_one_has_a_reason(action: Any) -> None:
    def make() -> list[Any]:
        return [GradientNormLogger(), ExplosionDetector(nonfinite=action), VanishingDetector()]

    zero, one = launch(2, lambda: work(make), timeout=90)
    assert zero.steps == one.steps == 2
    assert (zero.error is None) == (one.error is None) == (action == "stop")
