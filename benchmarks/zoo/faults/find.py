# SPDX-License-Identifier: Apache-2.0
"""Where a fault can be put, by what the network is made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer

from benchmarks.zoo.core import Params, Run

Layers = list[tuple[str, nn.Module]]


def matrices(run: Run, *kinds: type[nn.Module]) -> Layers:
    """The layers with a weight matrix, in order of registration."""
    wanted = kinds or (nn.Linear, nn.Conv1d, nn.Conv2d)
    return [(n, m) for n, m in run.net.named_modules() if isinstance(m, wanted)]


def middle(run: Run) -> tuple[str, nn.Module]:
    """One layer in the midst of the network, with its name in the LightningModule."""
    layers = matrices(run)
    name, layer = layers[(len(layers) - 1) // 2]
    return f"net.{name}", layer


def adjust(run: Run, **options: object) -> None:
    """Sets options of the optimizers."""
    inner = run.make

    def make(params: Params, rate: float) -> list[Optimizer]:
        made = inner(params, rate)
        for optimizer in made:
            for group in optimizer.param_groups:
                group.update(options)
        return made

    run.make = make


def swap(run: Run, kinds: tuple[type[nn.Module], ...], by: Callable[[], nn.Module]) -> None:
    """Replaces modules of some kinds."""
    for parent in list(run.net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kinds):
                setattr(parent, name, by())
