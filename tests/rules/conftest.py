# SPDX-License-Identifier: Apache-2.0
"""Snapshots from plain lists, and a way to play them to rules as the engine does."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_gradwatch.rules import explosion_rules, vanishing_rules
from lightning_gradwatch.snapshot import GradientSnapshot, ParameterInfo


def stack(depth: int, shape: tuple[int, ...] = (4, 4)) -> ParameterInfo:
    """`depth` layers net.0, net.1, ... with one matrix each."""
    return ParameterInfo(tuple(f"net.{i}.weight" for i in range(depth)), (shape,) * depth)


def snapshot(layout, norms, *, present=None, weights=1.0, updates=None, step=0, **kwargs) -> GradientSnapshot:
    """One step; `None` among the norms is a missing gradient, one number for all stands for each."""
    size = len(layout.names)
    given = list(norms) if isinstance(norms, (list, tuple, np.ndarray)) else [norms] * size
    return GradientSnapshot(
        layout=layout,
        norms=np.array([0.0 if norm is None else norm for norm in given]),
        present=np.array([norm is not None for norm in given]) if present is None else np.array(present),
        weight_norms=None if weights is None else np.broadcast_to(np.array(weights, dtype=float), size).copy(),
        update_ratios=None if updates is None else np.broadcast_to(np.array(updates, dtype=float), size).copy(),
        step=step,
        log_step=step,
        batch_idx=step,
        **kwargs,
    )


def play(rules, snapshots):
    """All events, in order; the loss is fed before each step."""
    events = []
    for one in snapshots:
        rules.losses.update(one.loss)
        events += rules.judge(one)
    return events


def both(**kwargs):
    """The two sets of rules at their defaults, as one object to be played to."""
    return SimpleNamespace(explosion=explosion_rules(**kwargs), vanishing=vanishing_rules(**kwargs))


def play_both(snapshots):
    rules = both()
    snapshots = list(snapshots)
    return play(rules.explosion, snapshots) + play(rules.vanishing, snapshots)


def through_checkpoint(state):
    """The state after a real torch checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def kinds(events):
    return [(event.kind.value, event.severity.value, event.step) for event in events]


@pytest.fixture(scope="session")
def lab():
    """Everything above in one hand."""
    return SimpleNamespace(
        stack=stack,
        snapshot=snapshot,
        play=play,
        play_both=play_both,
        through_checkpoint=through_checkpoint,
        kinds=kinds,
    )
