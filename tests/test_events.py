# SPDX-License-Identifier: Apache-2.0
import dataclasses
import io
import json
import pickle
from typing import Any

import pytest
import torch

from lightning_gradwatch import (
    EventKind,
    GradientEvent,
    GradientExplosionError,
    GradwatchError,
    Remedy,
    Severity,
    VanishingGradientError,
)

EVENT = GradientEvent(
    kind=EventKind.SPIKE,
    severity=Severity.ALARM,
    step=4812,
    log_step=4812,
    epoch=3,
    batch_idx=212,
    rank=None,
    optimizer=0,
    layers=("decoder.layers.11.mlp", "lm_head"),
    value=3.1e4,
    limit=62.0,
    message="grad norm 3.1e4, limit 62 (10x the median of 50 steps)\nwhere: decoder.layers.11.mlp 91 %, lm_head 6 %",
    cause="outlier batch (loss 2.1 -> 9.8, learning rate steady)",
    remedies=(Remedy("GW-08", "look at batch 212", "PaLM"), Remedy("GW-08", "learning rate / 3", "ZClip")),
    action_taken="clipped x0.002; training continues",
)


def test_the_text_is_that_of_the_design():
    assert str(EVENT) == (
        "[gradwatch] ALARM spike: step 4812 (epoch 3, batch 212): "
        "grad norm 3.1e4, limit 62 (10x the median of 50 steps)\n"
        "  where:  decoder.layers.11.mlp 91 %, lm_head 6 %\n"
        "  did:    clipped x0.002; training continues\n"
        "  likely: outlier batch (loss 2.1 -> 9.8, learning rate steady)\n"
        "  try:    1) look at batch 212   2) learning rate / 3   [GW-08]"
    )


def test_a_rank_and_a_second_optimizer_are_named():
    text = str(dataclasses.replace(EVENT, rank=3, optimizer=1))
    assert "step 4812 (epoch 3, batch 212, rank 3, optimizer 1): " in text


def test_what_is_missing_is_left_out():
    bare = dataclasses.replace(EVENT, message="", cause=None, remedies=(), action_taken="")
    assert str(bare) == "[gradwatch] ALARM spike: step 4812 (epoch 3, batch 212): "


def test_it_survives_json_and_weights_only():
    buffer = io.BytesIO()
    torch.save(EVENT.to_dict(), buffer)
    buffer.seek(0)
    assert GradientEvent.from_dict(torch.load(buffer, weights_only=True)) == EVENT
    assert GradientEvent.from_dict(json.loads(json.dumps(EVENT.to_dict()))) == EVENT


def test_it_is_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(EVENT, "step", 3)  # noqa: B010  mypy knows that it cannot be
    assert len({EVENT, dataclasses.replace(EVENT)}) == 1


def test_kinds_and_severities_are_strings():
    assert EVENT.kind == "spike"
    assert EVENT.severity == "alarm"
    assert [severity.value for severity in Severity] == ["info", "warning", "alarm"]


@pytest.mark.parametrize("error", [GradientExplosionError, VanishingGradientError])
def test_errors_carry_their_event_across_processes(error):
    raised: Any = pickle.loads(pickle.dumps(error(EVENT)))
    assert type(raised) is error
    assert issubclass(error, GradwatchError)
    assert raised.event == EVENT
    assert str(raised) == str(EVENT)
