# SPDX-License-Identifier: Apache-2.0
"""The callback that shows each step to the published rules, and changes nothing in it."""

from __future__ import annotations

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from benchmarks.listed.baselines import BASELINES
from benchmarks.listed.outcome import seen
from benchmarks.listed.step import Floats, Step


class Recorder(Callback):
    """Shows every step to the published rules, each with a memory of its own per optimizer.

    Attributes:
        alarms: Per rule, the steps at which it began to see something, with the kinds that it saw.
        steps: Optimizer steps.
    """

    def __init__(self) -> None:
        self.alarms: dict[str, list[tuple[int, list[str]]]] = {name: [] for name in BASELINES}
        self.steps = 0
        self._memories: dict[int, Memory] = {}

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        total = max(1, int(trainer.estimated_stepping_batches))
        memory = self._memories.setdefault(id(optimizer), Memory(total))
        for name, kinds in memory.look(optimizer, seen(pl_module)).items():
            self.alarms[name].append((trainer.global_step, kinds))
        self.steps += 1


class Memory:
    """The rules' memory of one optimizer that will do `total` steps."""

    def __init__(self, total: int) -> None:
        self.total, self.index = total, 0
        self.rules = {name: make() for name, make in BASELINES.items()}
        self.weights: list[Tensor] = []
        self.speaking: set[str] = set()

    def look(self, optimizer: Optimizer, loss: float) -> dict[str, list[str]]:
        """The rules that begin to see something at this step, with the kinds that they see."""
        step = self.measure([p for group in optimizer.param_groups for p in group["params"]], loss)
        said = {name: sorted(rule.look(step)) for name, rule in self.rules.items()}
        new = {name: kinds for name, kinds in said.items() if kinds and name not in self.speaking}
        self.speaking = {name for name, kinds in said.items() if kinds}
        self.index += 1
        return new

    def measure(self, params: list[Tensor], loss: float) -> Step:
        """The step as numbers."""
        now = [p.detach().float().clone() for p in params]
        before = self.weights or [torch.full_like(p, torch.nan) for p in now]
        self.weights = now
        moved = [new - old for new, old in zip(now, before, strict=True)]
        present = np.array([p.grad is not None for p in params])
        grads = [torch.full_like(p, torch.nan) if p.grad is None else dense(p.grad) for p in params]
        grad_norm, numel = norms(grads), np.array([p.numel() for p in params], dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return Step(
                index=self.index,
                total=self.total,
                loss=loss,
                matrix=np.array([p.dim() > 1 for p in params]),
                numel=numel,
                grad_norm=grad_norm,
                grad_mean=norms(grads, 1) / numel,
                zeros=np.where(present, numel - [int(g.count_nonzero()) for g in grads], np.nan),
                finite=bool(np.isfinite(grad_norm[present]).all()),
                update_norm=norms(moved) / (norms(before) + 1e-9),
                update_mean=norms(moved, 1) / norms(before, 1),
            )


def dense(grad: Tensor) -> Tensor:
    """A gradient in float32, whatever it was."""
    return grad.detach().to_dense().float() if grad.is_sparse else grad.detach().float()


def norms(tensors: list[Tensor], order: int = 2) -> Floats:
    """[P] one norm per tensor, with one transfer."""
    return torch.stack(torch._foreach_norm(tensors, order)).double().numpy()
