# SPDX-License-Identifier: Apache-2.0
"""Each rank keeps its own batch under its own name; the weights are whole where the strategy keeps them whole."""

from __future__ import annotations

from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_gradwatch import ExplosionDetector
from tests.strategies.cases import CASES, Case
from tests.strategies.harness import launch
from tests.strategies.nets import Net, fit

pytestmark = pytest.mark.ddp
NAMES = ("ddp", "fsdp1", "fsdp1_no_shard", "fsdp2")


def work(case: Case, folder: Path) -> Any:
    pl.seed_everything(3, verbose=False)
    module = Net(case.cut, {3: nan, 5: nan})
    return fit(module, [ExplosionDetector(dump_dir=folder)], case.make(), ranks=case.ranks)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in NAMES], ids=lambda case: case.name)
def test_every_rank_keeps_the_same_step_under_its_own_name(case, tmp_path):
    for seen in launch(case.ranks, partial(work, case, tmp_path)):
        assert (seen.error, seen.steps) == (None, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step_00000003_nonfinite_rank_{rank}.pt" for rank in range(case.ranks)
    ]
    dumps = [torch.load(path, weights_only=True) for path in sorted(tmp_path.iterdir())]
    assert [dump["rank"] for dump in dumps] == list(range(case.ranks))
    assert [dump["batches"][0]["batch"][0].shape for dump in dumps] == [(16, 12)] * case.ranks
    held = [sum(weight.numel() for weight in (dump["state_dict"] or {}).values()) for dump in dumps]
    whole = sum(p.numel() for p in Net().parameters())
    if case.name == "ddp":
        assert held == [whole, 0]
        Net().load_state_dict(dumps[0]["state_dict"])
    elif case.name == "fsdp1_no_shard":
        assert held == [whole] * case.ranks
    else:
        assert sum(held) == whole
        names = [name.replace("_fsdp_wrapped_module.", "") for name in dumps[0]["state_dict"]]
        assert names == [name for name, _ in Net().named_parameters()]
