# SPDX-License-Identifier: Apache-2.0
"""Weights that start badly, and networks that pass nothing on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import sigmoid

from benchmarks.zoo.core import Run
from benchmarks.zoo.fault import NOTHING, TOO_LARGE, fault
from benchmarks.zoo.faults.find import matrices, middle, swap

STARTS = (*TOO_LARGE, "off_scale", "vanishing", "stalled")
ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SELU, nn.Tanh, nn.SiLU)


@torch.no_grad()
def scaled(run: Run, times: float) -> None:
    """Multiplies all weight matrices."""
    for p in run.net.parameters():
        if p.ndim > 1:
            p.mul_(times)


@fault("tuning", STARTS, "initialisation", "saturation", rescue=True)
@torch.no_grad()
def normal_weights(run: Run) -> None:
    """All weight matrices are N(0, 1)."""
    for p in run.net.parameters():
        if p.ndim > 1:
            nn.init.normal_(p)


@fault("left out", STARTS, "initialisation", "saturation", rescue=True)
def weights_x5(run: Run) -> None:
    """Five times what suits."""
    scaled(run, 5.0)


@fault("tuning", NOTHING, "initialisation", "dead units")
def weights_all_zero(run: Run) -> None:
    """All weight matrices are zero."""
    scaled(run, 0.0)


@fault("left out", NOTHING, "initialisation")
def weights_tiny(run: Run) -> None:
    """A standard deviation of 0.001 by hand, in every layer."""
    for _, layer in matrices(run):
        nn.init.normal_(layer.weight, 0.0, 1e-3)  # type: ignore[arg-type]


@fault("left out", NOTHING, "dead units", "initialisation", needs=["relu"], unless=["residual"])
@torch.no_grad()
def biases_of_minus_30(run: Run) -> None:
    """The units of a layer never fire."""
    name, layer = middle(run)
    assert isinstance(layer.bias, Tensor)
    layer.bias.fill_(-30.0)
    run.layer = name


@fault("tuning", (*STARTS, *NOTHING), "saturation", "initialisation", needs=["deep"])
def saturated_units(run: Run) -> None:
    """Bounded units, and weights fifty times too large."""
    swap(run, ACTIVATIONS, nn.Tanh)
    scaled(run, 50.0)


@fault("tuning", NOTHING, "activation", needs=["deep"])
def sigmoid_everywhere(run: Run) -> None:
    """Sigmoids in a deep chain: at most a quarter of the gradient passes each."""
    swap(run, ACTIVATIONS, nn.Sigmoid)
    run.layer = "net.[0-4]"


@fault("left out", NOTHING, "activation", needs=["plain"])
def shrinking_activation(run: Run) -> None:
    """An activation of our own, whose slope is 0.02 at most."""

    class Faint(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.02 * sigmoid(4 * x)

    swap(run, ACTIVATIONS, Faint)


@fault("left out", (*STARTS, *NOTHING), "no normalisation", "initialisation", needs=["norm"], rescue=True)
def norms_removed(run: Run) -> None:
    """Normalisation left out, and weights as an old tutorial has them: twice as large."""
    swap(run, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm), nn.Identity)
    scaled(run, 2.0)


@fault("tuning", STARTS, "initialisation", needs=["tied"], rescue=True)
def unit_embeddings(run: Run) -> None:
    """The table is N(0, 1), as `nn.Embedding` draws it, and it is tied to the output."""
    nn.init.normal_(run.net.get_parameter("embed.weight"), 0.0, 4.0)
    run.layer = "net.embed"


@fault("left out", (*STARTS, "vanishing_in_time"), "recurrence", "initialisation", needs=["recurrent"], rescue=True)
@torch.no_grad()
def recurrent_gain(run: Run) -> None:
    """The recurrent matrix is eight times as large as it should be."""
    for name, p in run.net.named_parameters():
        if "weight_hh" in name:
            p.mul_(20.0)
    run.layer = "net.rnn"


@fault("tuning", NOTHING, "dead units", "loss formula", needs=["attention"], still=True)
def tensor_without_effect(run: Run) -> None:
    """One tensor of a layer is multiplied by 0, its sibling is not."""
    name, layer = next((n, m) for n, m in matrices(run) if n.endswith(("linear1", "up")))
    layer.weight.register_hook(lambda grad: grad * 0)  # type: ignore[operator]
    run.layer = f"net.{name}"
