# SPDX-License-Identifier: Apache-2.0
"""Healthy changes of data, loss and network."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import huber_loss
from typing_extensions import override

from benchmarks.zoo.core import Batch, Run
from benchmarks.zoo.faults.find import matrices, middle
from benchmarks.zoo.variation import variation


@variation("tuning", needs=["float inputs"])
def curriculum(run: Run) -> None:
    """Noise is added to the inputs of the second half: the loss jumps and stays up."""
    run.feed(x=lambda x: x + 0.5 * torch.randn_like(x), at=range(run.steps // 2, run.steps))


@variation("left out", needs=["classes", "float inputs"])
def label_noise(run: Run) -> None:
    """One label in ten is drawn at random: the loss has a floor."""

    def noisy(y: Tensor) -> Tensor:
        return torch.where(torch.rand(y.shape) < 0.1, torch.randint_like(y, int(y.max()) + 1), y)

    run.feed(y=noisy, at=range(run.steps))


@variation("left out", unless=["own loop"])
def auxiliary_loss(run: Run) -> None:
    """A second loss on the weights is switched on in the middle: the loss jumps, the gradient changes."""
    seen = [0]

    def around(loss: Tensor, batch: Batch) -> Tensor:
        seen[0] += 1
        first = next(p for p in run.net.parameters() if p.requires_grad)
        return loss + (first - 0.5).square().mean() if seen[0] > run.steps // 2 else loss

    run.wrap(around)


@variation("left out", unless=["own loop"])
def heavy_tailed(run: Run) -> None:
    """Batches weigh as claims of an insurance do: most little, a few twenty times as much."""
    draw = torch.distributions.Pareto(torch.tensor(1.0), torch.tensor(1.5))
    weights = (draw.sample((run.steps + 1,)) / 3).clamp(max=20.0)  # type: ignore[no-untyped-call]
    seen = [0]

    def around(loss: Tensor, batch: Batch) -> Tensor:
        seen[0] = min(seen[0] + 1, run.steps)
        weighted: Tensor = loss * weights[seen[0]]
        return weighted

    run.wrap(around)
    if run.rate > 0.01:
        run.rate /= 5


@variation("tuning", unless=["own loop"])
def rare_events(run: Run) -> None:
    """One batch in twelve weighs eight times as much, all others little."""
    seen = [0]

    def around(loss: Tensor, batch: Batch) -> Tensor:
        seen[0] += 1
        return loss * (5.0 if seen[0] % 12 == 0 else 0.6)

    run.wrap(around)


@variation("tuning", needs=["classes", "plain"])
def learnt_by_heart(run: Run) -> None:
    """Two batches again and again: the loss reaches 0."""
    run.task.batches = [run.task.batches[i % 2] for i in range(run.steps)]
    run.task.check = run.task.batches[:2]


@variation("left out", needs=["numbers", "plain"])
def robust_loss(run: Run) -> None:
    """One target in fifty is far off, and a Huber loss bears it."""

    def far(y: Tensor) -> Tensor:
        return torch.where(torch.rand(y.shape) < 0.02, 30.0 * y.abs() + 10.0, y)

    run.feed(y=far, at=range(run.steps))
    run.task.criterion = lambda out, batch: huber_loss(out, batch[1])


@variation("tuning", needs=["float inputs"], unless=["pixels"])
def batch_size_x8(run: Run) -> None:
    """Eight times as many samples per batch in the second half: the noise falls."""
    half = run.steps // 2
    train = run.task.batches

    def joined(i: int) -> Batch:
        parts = [train[(i * 7 + k) % len(train)] for k in range(8)]
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])

    run.task.batches = [joined(i) if i >= half else batch for i, batch in enumerate(train)]


@variation("left out", needs=["float inputs"], unless=["pixels", "norm", "views"])
def four_samples(run: Run) -> None:
    """Four samples per batch: everything is noisy."""
    run.feed(x=lambda x: x[:4], y=lambda y: y[:4], at=range(run.steps))
    run.rate /= 2


@variation("tuning", unless=["tables"])
def unused_part(run: Run) -> None:
    """A module that nothing calls."""
    middle(run)[1].register_module("spare", nn.Linear(8, 8))


@variation("left out", needs=["plain", "float inputs"])
def affine_undone(run: Run) -> None:
    """Biases before a batch normalisation, which undoes them: their gradient is rounding."""
    net = run.net
    assert isinstance(net, nn.Sequential)
    for i, layer in list(enumerate(net))[:-1]:
        if isinstance(layer, nn.Linear):
            net[i] = nn.Sequential(layer, nn.BatchNorm1d(layer.out_features))


@variation("tuning", needs=["classes", "plain"])
def learnt_temperature(run: Run) -> None:
    """A scalar scales the outputs and moves by many times what it is: it starts at a fiftieth."""
    scale = nn.Parameter(torch.tensor(0.02))
    run.net.register_parameter("temperature", scale)
    inner = run.task.model
    run.task.model = lambda net, batch: inner(net, batch) * (1 + scale)
    task = run.task
    run.judge = lambda net, batch: task.criterion(task.model(net, batch), batch)


@variation("left out", needs=["residual", "attention"])
@torch.no_grad()
def zero_residuals(run: Run) -> None:
    """The last layer of each branch starts at zero, as in Fixup: what is before it has no gradient at first."""
    for name, layer in matrices(run):
        if name.endswith(("linear2", "down", "out_proj", "proj")):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]


@variation("tuning", needs=["plain"], unless=["own loop"])
def thawed(run: Run) -> None:
    """The first half of the network is frozen, and trained from the middle on."""
    held = list(run.net.parameters())[: len(list(run.net.parameters())) // 2]
    run.callbacks.append(Thaws(held, run.steps // 3))


class Thaws(Callback):
    """Freezes parameters up to a step. They are in the optimizer from the start."""

    def __init__(self, held: list[nn.Parameter], at: int) -> None:
        self.held, self.at = held, at

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        for p in self.held:
            p.requires_grad_(trainer.global_step >= self.at)


@variation("left out", needs=["plain"])
def frozen_body(run: Run) -> None:
    """Only the last two layers are trained; the others were frozen on purpose."""
    every = list(run.net.parameters())
    for p in every[: max(2, len(every) - 4)]:
        p.requires_grad = False


@variation("tuning", needs=["plain", "float inputs"])
def dropout(run: Run) -> None:
    """Half of the units rest at each step."""
    _, layer = middle(run)
    layer.register_forward_hook(lambda module, args, out: nn.functional.dropout(out, 0.3, module.training))


@variation("left out", needs=["tables", "sgd"], unless=["momentum_cosine"])
def sparse_tables(run: Run) -> None:
    """Gradients of embeddings are sparse: most rows have none."""
    for module in run.net.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = True


@variation("tuning", needs=["classes", "plain", "float inputs"])
def mostly_zero_inputs(run: Run) -> None:
    """Nine inputs of ten are exactly 0, as in bags of words."""
    run.feed(x=lambda x: x * (x > 0.8))


@variation("left out", needs=["classes", "plain"], unless=["views"])
def smoothed_labels(run: Run) -> None:
    """Label smoothing: the loss stays far above 0."""
    run.task.criterion = lambda out, batch: nn.functional.cross_entropy(out, batch[1], label_smoothing=0.1)


@variation("left out", needs=["plain", "float inputs"])
def normalised_weights(run: Run) -> None:
    """Weights as length times direction: gradients are at right angles to them."""
    for _, layer in matrices(run):
        nn.utils.parametrizations.weight_norm(layer)


@variation("left out", needs=["plain"], unless=["several"])
def late_parameters(run: Run) -> None:
    """A head for a second task that is used from the middle on."""
    extra, seen = nn.Linear(4, 1), [0]
    middle(run)[1].register_module("second", extra)

    def around(loss: Tensor, batch: Batch) -> Tensor:
        seen[0] += 1
        return loss + (0.1 * (extra(torch.ones(1, 4)) - 1).square().mean() if seen[0] > run.steps // 2 else 0.0)

    run.wrap(around)
