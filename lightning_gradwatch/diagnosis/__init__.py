# SPDX-License-Identifier: Apache-2.0
"""Costly looks, taken on demand: what a batch holds, what the layers and units make of it, what that says of a finding.

Example:
    >>> from torch import nn, ones
    >>> net = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    >>> _ = nn.init.constant_(net[0].bias, -10.0)
    >>> probe = ForwardProbe(net, SuppressErrors())
    >>> probe.attach()
    >>> _ = net(ones(3, 2))
    >>> probe.detach()
    >>> float(probe.take()["silent relu 0"])
    1.0
"""

from __future__ import annotations

from lightning_gradwatch.diagnosis.cause import Cause
from lightning_gradwatch.diagnosis.causes import find_cause
from lightning_gradwatch.diagnosis.evidence import Activation, Evidence, Scale, gather, hidden
from lightning_gradwatch.diagnosis.forward import ForwardProbe
from lightning_gradwatch.diagnosis.guard import SuppressErrors
from lightning_gradwatch.diagnosis.inputs import Input, inspect, nonfinite
from lightning_gradwatch.diagnosis.report import diagnosed, explained
from lightning_gradwatch.diagnosis.request import Readings, Request
from lightning_gradwatch.diagnosis.setup import Setup, read_setup
from lightning_gradwatch.diagnosis.through_time import TimeProbe

__all__ = [
    "Activation",
    "Cause",
    "Evidence",
    "ForwardProbe",
    "Input",
    "Readings",
    "Request",
    "Scale",
    "Setup",
    "SuppressErrors",
    "TimeProbe",
    "diagnosed",
    "explained",
    "find_cause",
    "gather",
    "hidden",
    "inspect",
    "nonfinite",
    "read_setup",
]
