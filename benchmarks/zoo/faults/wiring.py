# SPDX-License-Identifier: Apache-2.0
"""Parts that nothing reaches, or that nobody updates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.core import Run
from benchmarks.zoo.fault import NOTHING, fault
from benchmarks.zoo.faults.find import matrices, middle

CUT = NOTHING


def leave_out(run: Run, prefix: str) -> None:
    """The optimizers do not get parameters whose names start like that."""
    inner = run.trained
    run.trained = lambda net: [(n, p) for n, p in inner(net) if not n.startswith(prefix)]
    run.layer = f"net.{prefix}*"


@fault("tuning", CUT, "not in optimizer", still=True, unless=["own loop", "tables"])
def middle_not_in_optimizer(run: Run) -> None:
    """A layer is kept where `parameters()` does not find it."""
    leave_out(run, middle(run)[0].removeprefix("net."))


@fault("left out", CUT, "not in optimizer", still=True, unless=["own loop"])
def first_not_in_optimizer(run: Run) -> None:
    """The first layer was forgotten."""
    leave_out(run, matrices(run, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)[0][0])


@fault("left out", CUT, "not in optimizer", still=True, unless=["own loop", "adapters"])
def biases_only(run: Run) -> None:
    """The optimizer got the vectors, but none of the matrices."""
    inner = run.trained
    run.trained = lambda net: [(n, p) for n, p in inner(net) if p.ndim < 2]


def detached(layer: nn.Module, args: Any, out: Any) -> Any:  # noqa: ANN401
    """What a layer gives, without its history."""
    return out.detach() if isinstance(out, Tensor) else out


@fault("left out", CUT, "detached", needs=["plain"], still=True)
def detached_in_the_middle(run: Run) -> None:
    """`detach` behind a layer: nothing before it learns."""
    name, layer = middle(run)
    layer.register_forward_hook(detached)
    last = int(name.removeprefix("net."))
    run.layer = f"net.[0-{min(last, 9)}]"


@fault("tuning", CUT, "detached", needs=["attention"], still=True)
def detached_branch(run: Run) -> None:
    """`detach` on one branch of a block."""
    name, layer = next((n, m) for n, m in matrices(run) if n.endswith(("linear1", "up")))
    layer.register_forward_hook(detached)
    run.layer = f"net.{name}"


@fault("left out", CUT, "detached", "dead units", needs=["residual", "attention"], still=True)
def branch_times_zero(run: Run) -> None:
    """A gate of exactly 0 that cannot open."""
    name, layer = [(n, m) for n, m in matrices(run) if n.endswith(("linear2", "down"))][-1]
    layer.register_forward_hook(lambda layer, args, out: 0.0 * out)
    run.layer = f"net.{name}"


@fault("left out", CUT, "detached", "loss formula", unless=["own loop"])
def number_only(run: Run) -> None:
    """A new tensor from the loss's value: the graph is lost."""
    run.wrap(lambda loss, _: loss.detach() + 0.0 * sum(p.sum() for p in run.net.parameters()))


@fault("tuning", CUT, "dead units", "initialisation", needs=["adapters"], still=True)
@torch.no_grad()
def adapters_all_zero(run: Run) -> None:
    """Both factors of an adapter start at zero: neither can leave it."""
    for name, p in run.net.named_parameters():
        if p.requires_grad and ("up" in name or "down" in name):
            p.zero_()
    run.layer = "net.*up"
