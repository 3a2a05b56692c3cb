# SPDX-License-Identifier: Apache-2.0
"""Numbers that go from a device to the host together. A CPU is a device here; `tests/gpu` counts the waits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lightning_gradwatch.measurement.transfer import Transfer, send

CPU = torch.device("cpu")


def test_what_arrives_is_what_was_sent_flat_and_by_name():
    numbers: dict[str, Any] = {
        "norms": torch.tensor([1.5, 2.5]),
        "loss": torch.tensor(0.25, dtype=torch.bfloat16),
        "wide": torch.tensor([[1e200]], dtype=torch.float64),
        "present": np.array([True, False]),
        "none": torch.zeros(0),
    }
    transfer, near = send(numbers, CPU)
    arrived = near | transfer.arrive()
    assert {name: values.tolist() for name, values in arrived.items()} == {
        "norms": [1.5, 2.5],
        "loss": [0.25],
        "wide": [1e200],
        "present": [1.0, 0.0],
        "none": [],
    }
    assert all(values.dtype == np.float64 for values in arrived.values())


def test_what_lies_elsewhere_does_not_travel_along():
    transfer, near = send({"norms": torch.ones(2), "loss": torch.tensor(3.0)}, torch.device("meta"))
    assert transfer.arrive() == {}
    assert {name: values.tolist() for name, values in near.items()} == {"norms": [1.0, 1.0], "loss": [3.0]}


def test_nothing_is_sent_where_there_is_nothing():
    assert Transfer({}).arrive() == {}
