# SPDX-License-Identifier: Apache-2.0
"""Runs with parts that are cut off from the loss, or were not given to the optimizer. The rest learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.optim import Optimizer
from typing_extensions import override

from benchmarks.listed import nets
from benchmarks.listed.case import REPORTING, TUNING, Case, Half, sick
from benchmarks.listed.tasks import MakeOptimizer, adam, digits
from lightning_gradwatch.events import EventKind as K

CUT = {K.DISCONNECTED, K.DEAD}
KEPT = {K.NOT_UPDATED, K.STALLED}


class Parts(nn.Module):
    """A body, something in between, and a head."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.between, self.head = nets.mlp(64, 64, 64), between, nets.mlp(64, 32, 10)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.between(self.body(x)))
        return out


class Branches(nn.Module):
    """Two branches that are added, the second times `weight`; None: it is never called."""

    def __init__(self, weight: float | None) -> None:
        super().__init__()
        self.first, self.second, self.weight = nets.small(), nets.small(), weight

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.first(x)
        return out if self.weight is None else out + self.weight * self.second(x)


def cut(name: str, half: Half, between: Callable[[Tensor], Tensor]) -> Case:
    """No gradient gets through `between`."""
    fault = ("no gradient", "net.body.*")
    return sick(name, half, CUT, lambda: digits(Parts(between)), layer="net.body*", fault=fault)


def kept(name: str, half: Half, optimizer: MakeOptimizer, kinds: set[K], part: str = "body") -> Case:
    """The optimizer does not move one part."""
    fault = ("not updated", f"net.{part}.*")
    return sick(name, half, kinds, lambda: digits(Parts(nn.ReLU()), optimizer), layer=f"net.{part}*", fault=fault)


def unused(name: str, half: Half, weight: float | None) -> Case:
    """The second branch adds nothing."""
    fault = ("no gradient", "net.second.*")
    return sick(name, half, CUT, lambda: digits(Branches(weight)), layer="net.second*", fault=fault)


def one_hot_of_best(x: Tensor) -> Tensor:
    """A choice has no gradient."""
    return one_hot(x.argmax(1), x.shape[1]).float()


def head_only(net: nn.Module) -> Iterator[nn.Parameter]:
    """The body was forgotten."""
    return net.get_submodule("head").parameters()


def quiet_body(net: nn.Module) -> list[dict[str, Any]]:
    """The body has a group of its own, with learning rate 0."""
    return [{"params": net.get_submodule("body").parameters(), "lr": 0.0}, {"params": head_only(net)}]


def too_early(net: nn.Module) -> Optimizer:
    """The head is replaced after the optimizer was made: what it moves is the one that was thrown away."""
    made = torch.optim.Adam(net.parameters(), 1e-3)
    net.head = nets.mlp(64, 32, 10)
    return made


CASES = (
    cut("detached_body", TUNING, Tensor.detach),
    unused("branch_times_zero", REPORTING, 0.0),
    cut("argmax_in_the_path", TUNING, one_hot_of_best),
    unused("layer_never_called", REPORTING, None),
    cut("rounded_features", TUNING, lambda x: (4 * x).round()),
    cut("hard_threshold", REPORTING, lambda x: (x > 0).float()),
    kept("body_not_in_optimizer", TUNING, adam(of=head_only), KEPT),
    kept("group_with_lr_0", REPORTING, adam(of=quiet_body), KEPT),
    kept("head_replaced_after_optimizer", TUNING, too_early, KEPT | CUT, part="head"),
)
