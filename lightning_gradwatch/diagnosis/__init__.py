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
from lightning_gradwatch.diagnosis.fitting import fitting
from lightning_gradwatch.diagnosis.forward import RESIDUAL, ForwardProbe
from lightning_gradwatch.diagnosis.guard import SuppressErrors
from lightning_gradwatch.diagnosis.history import History
from lightning_gradwatch.diagnosis.inputs import Input, inputs_of, inspect, nonfinite, outlier, scales
from lightning_gradwatch.diagnosis.losses import scales_of
from lightning_gradwatch.diagnosis.report import diagnosed, explained
from lightning_gradwatch.diagnosis.request import Readings, Request
from lightning_gradwatch.diagnosis.setup import Setup, read_setup
from lightning_gradwatch.diagnosis.through_time import TimeProbe
from lightning_gradwatch.diagnosis.weigh import advice, weigh

__all__ = [
    "RESIDUAL",
    "Activation",
    "Cause",
    "Evidence",
    "ForwardProbe",
    "History",
    "Input",
    "Readings",
    "Request",
    "Scale",
    "Setup",
    "SuppressErrors",
    "TimeProbe",
    "advice",
    "diagnosed",
    "explained",
    "find_cause",
    "fitting",
    "gather",
    "hidden",
    "inputs_of",
    "inspect",
    "nonfinite",
    "outlier",
    "read_setup",
    "scales",
    "scales_of",
    "weigh",
]
