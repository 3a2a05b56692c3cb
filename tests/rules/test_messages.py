# SPDX-License-Identifier: Apache-2.0
"""One event of each kind, word for word, as the console shows it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lightning_gradwatch.events import EventKind
from lightning_gradwatch.rules import explosion_rules, vanishing_rules

NAN, INF = math.nan, math.inf
FLAT = 2.302
SMALL = {"updates": 1e-3, "weights": 2.0, "lr": 1e-3}


def last(lab, make, kind, rows, loss=FLAT):
    """The last event of a kind in a run of four layers; `rows` are norms, or norms with other fields."""
    layout = lab.stack(4)
    steps = []
    for i, row in enumerate(rows):
        norms, fields = row if isinstance(row, tuple) else (row, {})
        steps.append(lab.snapshot(layout, norms, step=i, **{"loss": loss, **SMALL, **fields}))
    events = [event for event in lab.play(make(), steps) if event.kind == kind]
    return str(replace(events[-1], action_taken='nothing (action="warn")'))


def growing(i):
    return ([1.1 ** max(0, i - 60)] * 4, {"loss": 2.0 * 1.02 ** max(0, i - 60)})


CASES = {
    "nonfinite": (
        explosion_rules,
        [[1.0] * 4] * 900 + [([NAN] * 4, {"loss": NAN})],
        """\
[gradwatch] ALARM nonfinite: step 900 (epoch 0, batch 900): NaN in all 4 layers
  loss:   NaN
  did:    nothing (action="warn")
  likely: the forward pass or the loss: the loss was not finite before the backward pass
  try:    1) drop or repair the batch   2) check the loader   [GW-11]""",
    ),
    "spike": (
        explosion_rules,
        [[1.0, 1.0, 1.0, 2.0]] * 100 + [([10.0, 3e4, 8e3, 1.0], {"loss": 9.8})],
        """\
[gradwatch] ALARM spike: step 100 (epoch 0, batch 100): grad norm 3.1e4, limit 26 (10x the median of 50 steps)
  where:  net.1 93 %, net.2 7 %
  did:    nothing (action="warn")
  likely: outlier batch (loss 2.3 -> 9.8, learning rate steady)
  try:    1) look at this batch   2) clip the gradient   3) leave the learning rate as it is   [GW-08]""",
    ),
    "level_shift": (
        explosion_rules,
        [[1.0] * 4] * 100 + [[12.0] * 4] * 5,
        """\
[gradwatch] INFO level_shift: step 104 (epoch 0, batch 104): grad norm 12x its former median for 5 steps: a new level
  did:    nothing (action="warn")
  likely: another batch size, accumulation, loss term or data set
  try:    1) nothing, if the change was meant   2) scale the learning rate with the batch size   [GW-27]""",
    ),
    "explosion": (
        explosion_rules,
        [growing(i) for i in range(140)],
        """\
[gradwatch] ALARM explosion: step 99 (epoch 0, batch 99): grad norm grows x120 in 50 steps, to 82 (at the start 2)
  where:  net.0 25 %, net.1 25 %, net.2 25 %
  loss:   rising (2 -> 2.665)
  did:    nothing (action="warn")
  likely: the learning rate is just past stability, or a decay has the wrong sign
  try:    1) learning rate / 3   2) clip the gradient   3) check the sign of the weight decay   [GW-07]""",
    ),
    "update_too_large": (
        explosion_rules,
        [[1.0] * 4] * 100 + [([1.0] * 4, {"updates": [0.6, 0.7, 2.1, 1e-3]})] * 3,
        """\
[gradwatch] ALARM update_too_large: step 102 (epoch 0, batch 102): weights moved by 2.1x their norm, limit 0.5
  where:  net.2 x2.1, net.1 x0.7, net.0 x0.6 (3 of 4 matrices)
  loss:   no progress in 50 steps (2.302 -> 2.302)
  did:    nothing (action="warn")
  likely: the learning rate is too high
  try:    1) learning rate / 10   2) warm up over 100 steps or more   3) aim at updates of 1e-3   [GW-05]""",
    ),
    "scaler_stuck": (
        explosion_rules,
        [([1.0, INF, 1.0, 1.0], {"loss_scale": 4.0})] * 13,
        """\
[gradwatch] ALARM scaler_stuck: step 12 (epoch 0, batch 12): the GradScaler skipped 13 steps in a row, its scale is 4
  did:    nothing (action="warn")
  likely: a true overflow in half precision
  try:    1) train in bf16   2) lower the learning rate   3) keep normalisation and softmax in fp32   [GW-13]""",
    ),
    "vanishing": (
        vanishing_rules,
        [[1e-9, 1e-6, 1e-3, 1.0]] * 100,
        """\
[gradwatch] ALARM vanishing: step 99 (epoch 0, batch 99): gradient shrinks x1e-3 per layer from net.3 (1) to net.0 (1e-9)
  loss:   no progress in 50 steps (2.302 -> 2.302)
  did:    nothing (action="warn")
  likely: small derivatives (a sigmoid's is at most 1/4) or small weights, multiplied over 4 layers
  try:    1) ReLU or GELU   2) Xavier initialisation   3) residual connections and normalisation   [GW-01]""",  # noqa: E501
    ),
    "stalled": (
        vanishing_rules,
        [([1.0] * 4, {"updates": 3e-8})] * 100,
        """\
[gradwatch] ALARM stalled: step 99 (epoch 0, batch 99): weights move by 3e-8 of their norm, limit 1e-6 (20 looks)
  loss:   no progress in 50 steps (2.302 -> 2.302)
  did:    nothing (action="warn")
  likely: the learning rate or the clipping is too small, or the loss is scaled down
  try:    1) learning rate x 10   2) clip above the usual norm   3) check the loss's scale   [GW-20]""",
    ),
    "dead": (
        vanishing_rules,
        [[0.0, 0.0, 1.0, 1.0]] * 60,
        """\
[gradwatch] ALARM dead: step 49 (epoch 0, batch 49): gradient exactly 0 for 50 steps in net.0, net.1
  loss:   no progress in 25 steps (2.302 -> 2.302)
  did:    nothing (action="warn")
  likely: units that never fire, or a factor of 0
  try:    1) a bias of 0 or slightly above   2) He initialisation   3) LeakyReLU or GELU   [GW-15]""",
    ),
    "disconnected": (
        vanishing_rules,
        [[None, None, None, 1.0]] * 60,
        """\
[gradwatch] ALARM disconnected: step 49 (epoch 0, batch 49): never a gradient in 50 steps in net.0, net.1, net.2
  loss:   no progress in 25 steps (2.302 -> 2.302)
  did:    nothing (action="warn")
  likely: detach, no_grad, argmax, an unused branch, or a factor of 0
  try:    1) remove the detach   2) use the block in the loss   3) or freeze it: requires_grad_(False)   [GW-18]""",
    ),
    "not_updated": (
        vanishing_rules,
        [([1.0] * 4, {"updates": [0.0, 1e-3, 1e-3, 1e-3]})] * 60,
        """\
[gradwatch] ALARM not_updated: step 50 (epoch 0, batch 50): weights unchanged for 50 steps in net.0
  loss:   no progress in 25 steps (2.302 -> 2.302)
  did:    nothing (action="warn")
  likely: not in the optimizer, or in a group with learning rate 0
  try:    1) look at configure_optimizers   2) set a learning rate, or requires_grad_(False)   [GW-19]""",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_message_reads(lab, kind):
    make, rows, expected = CASES[kind]
    assert last(lab, make, kind, rows) == expected


def test_every_kind_that_a_snapshot_can_show_is_here():
    elsewhere = {"vanishing_in_time", "saturated", "rewound", "held", "custom"}
    elsewhere |= {"off_scale", "overwritten", "diverging", "wrong_loss", "same_output"}
    assert set(CASES) == {kind.value for kind in EventKind} - elsewhere
