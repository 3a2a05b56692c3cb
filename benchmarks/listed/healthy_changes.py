# SPDX-License-Identifier: Apache-2.0
"""Healthy runs in which something changes on the way."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.listed import data, nets, parts, sequences
from benchmarks.listed.case import REPORTING, TUNING, healthy
from benchmarks.listed.special import Phases
from benchmarks.listed.tasks import Run, Task, adam, digits, fit, sgd


def phases(at: int, act: Callable[[Task], object], net: nn.Module | None = None) -> Run:
    """`act` changes the module before batch number `at`."""
    return Run(Phases(net or nets.small(), at, act), data.digits(250), {})


def unfreeze(task: Task) -> None:
    """All parameters may learn from now on."""
    task.net.requires_grad_()


def forget_head(task: Task) -> None:
    """The last layer starts anew."""
    head = task.net.get_submodule("4")
    assert isinstance(head, nn.Linear)
    head.reset_parameters()


def add_auxiliary(task: Task) -> None:
    """A second loss is switched on."""
    task.loss = with_auxiliary


def with_auxiliary(out: Tensor, y: Tensor) -> Tensor:
    """Another class must be avoided."""
    return cross_entropy(out, y) + 3.0 * cross_entropy(-out, (y + 5) % 10)


def lengths() -> Run:
    """Sequences of 8 steps, then of 24."""
    batches = data.recall(8, steps=150) + data.recall(24, steps=100)
    return fit(sequences.rnn(nn.GRU, (4, 32, 4)), batches, adam(1e-2))


def curriculum() -> Run:
    """First the digits 0 and 1 alone, then all."""
    x, y = data.standard("digits")
    easy = y < 2
    return fit(nets.small(), data.batches((x[easy], y[easy]), 100) + data.digits(150), adam())


def outliers() -> Run:
    """Three batches that are twelve times too large."""
    batches = data.digits(300)
    for at in (90, 160, 230):
        batches = data.tamper(batches, at, x=lambda x: 12 * x)
    return fit(nets.small(), batches, adam())


def front_frozen() -> nn.Module:
    """The first two layers wait."""
    return parts.frozen(nets.mlp(64, 64, 64, 10), "0.", "2.")


CASES = (
    healthy("unfrozen_at_100", TUNING, "gradients appear on the way", lambda: phases(100, unfreeze, front_frozen())),
    healthy("auxiliary_loss_at_120", REPORTING, "the loss jumps up", lambda: phases(120, add_auxiliary), since=121),
    healthy("head_reset_at_120", TUNING, "deliberate forgetting", lambda: phases(120, forget_head)),
    healthy("one_batch_x20_recovers", REPORTING, "an outlier", lambda: digits(steps=250, at=120, x=lambda x: 20 * x)),
    healthy("three_outliers_recover", TUNING, "outliers", outliers),
    healthy(
        "inputs_x3_at_120",
        REPORTING,
        "a lasting change of level",
        lambda: digits(steps=250, at=slice(120, None), x=lambda x: 3 * x),
    ),
    healthy(
        "classes_swapped_at_120",
        TUNING,
        "the task changes",
        lambda: digits(steps=300, at=slice(120, None), y=lambda y: (y + 1) % 10),
        since=120,
    ),
    healthy("longer_sequences_at_150", REPORTING, "more time steps", lengths),
    healthy("curriculum_jump_at_100", TUNING, "the data set changes", curriculum, since=100),
    healthy(
        "batch_64_to_4",
        REPORTING,
        "the noise grows",
        lambda: fit(nets.small(), data.digits(150) + data.digits(100, 4), sgd(0.05)),
    ),
)
