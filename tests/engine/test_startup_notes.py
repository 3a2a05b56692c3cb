# SPDX-License-Identifier: Apache-2.0
"""What a user should know before the first step."""

import pytest

from lightning_gradwatch.engine.startup_notes import runs_elsewhere


@pytest.mark.parametrize(
    ("strategy", "elsewhere"),
    [("auto", False), ("ddp", False), ("ddp_spawn", True), ("ddp_fork", True), ("ddp_notebook", True)],
)
def test_it_is_known_whether_the_training_runs_in_processes_of_its_own(kit, strategy, elsewhere):
    devices = 1 if strategy == "auto" else 2
    trainer = kit.pl.Trainer(accelerator="cpu", devices=devices, strategy=strategy, logger=False, barebones=False)
    assert runs_elsewhere(trainer) is elsewhere
