# SPDX-License-Identifier: Apache-2.0
"""What fails in a report on one rank leaves no other rank waiting, and all of them train on alike."""

from __future__ import annotations

import importlib
from math import isfinite, nan
from typing import Any

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, NormClip
from tests.strategies.harness import launch
from tests.strategies.nets import BATCHES, Memory, Net, Seen, fit

pytestmark = pytest.mark.ddp


def fail(*_: Any, **__: Any) -> None:
    raise OSError("gone")


class Breaking(Net):
    """Breaks a function of ours on one rank, as soon as it knows its own."""

    def __init__(self, module: str, name: str, on_rank: int) -> None:
        super().__init__(None, {2: 1e5, 4: nan})
        self.where, self.on_rank = (module, name), on_rank

    def setup(self, stage: str) -> None:
        if self.global_rank == self.on_rank:
            owner: Any = importlib.import_module(self.where[0])
            *parents, attribute = self.where[1].split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            setattr(owner, attribute, fail)


def work(module: str, name: str, on_rank: int) -> tuple[Seen, list[float]]:
    net = Breaking(module, name, on_rank)
    callbacks = [GradientNormLogger(), ExplosionDetector(max_norm=50.0), AdaptiveClipper(NormClip(max_norm=1.0))]
    seen = fit(
        net,
        [*callbacks, LRDecay()],
        DDPStrategy(process_group_backend="gloo"),
        ranks=2,
        max_epochs=2,
    )
    return seen, torch.nn.utils.parameters_to_vector(net.parameters()).tolist()


@pytest.mark.parametrize("on_rank", [0, 1])
@pytest.mark.parametrize(
    "where",
    [
        (Memory.__module__, "Memory.log_metrics"),
        ("lightning_gradwatch.callbacks.gradient_norm_logger", "headline"),
        ("lightning_gradwatch.engine.investigation", "inspect"),
        ("lightning_gradwatch.engine.investigation", "gather"),
        ("lightning_gradwatch.events", "GradientEvent.__str__"),
    ],
    ids=lambda where: where[1],
)
def test_a_report_that_fails_on_one_rank_desynchronises_nothing(where, on_rank):
    (zero, weights), (one, others) = launch(2, lambda: work(where[0], where[1], on_rank), timeout=60)
    assert (zero.error, one.error) == (None, None)
    assert zero.steps == one.steps == 2 * BATCHES
    alarms = [[event[:3] for event in seen.events if event[1] == "alarm"] for seen in (zero, one)]
    assert alarms[0] == alarms[1]
    assert {kind for kind, *_ in alarms[0]} >= {"explosion", "nonfinite"}
    assert weights == others
    assert all(map(isfinite, weights))
