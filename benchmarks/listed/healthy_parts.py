# SPDX-License-Identifier: Apache-2.0
"""Healthy runs of networks some parts of which have no gradient, for some time or for ever."""

from __future__ import annotations

from torch import nn

from benchmarks.listed import data, nets, parts
from benchmarks.listed.case import REPORTING, TUNING, healthy
from benchmarks.listed.special import Alternating
from benchmarks.listed.tasks import Run, adam, digits, fit, sgd

AT_FIRST = "exactly zero gradients at first"


def characters(*, sparse: bool) -> Run:
    """The next character by a large table; plain SGD takes dense and sparse gradients together."""
    batches = [(x, y[:, -1]) for x, y in data.text(200, 64, 8)]
    return fit(parts.Words(sparse=sparse), batches, sgd(0.5) if sparse else adam(0.01))


def body() -> nn.Module:
    """A network that was trained for a while, whose first two layers are frozen."""
    return parts.frozen(parts.pretrained(nets.mlp(64, 64, 64, 10), data.digits(40)), "0.", "2.")


def adapted() -> nn.Module:
    """A network that was trained for a while, with adapters."""
    net = nets.small()
    parts.pretrained(net, data.digits(30))
    return parts.with_lora(net)


CASES = (
    healthy(
        "alternating_heads",
        TUNING,
        "each head has a gradient every other step, sometimes nobody has",
        lambda: Run(Alternating(), data.digits(), {}),
    ),
    healthy("frozen_body", REPORTING, "half of the network has no gradient", lambda: digits(body())),
    healthy("zero_init_residual", REPORTING, AT_FIRST, lambda: digits(nets.residual(6, zero=True))),
    healthy("rezero", TUNING, AT_FIRST, lambda: digits(nets.residual(8, norm=False, gate=0.0))),
    healthy(
        "stochastic_depth", REPORTING, "blocks without gradient at random", lambda: digits(nets.residual(6, drop=0.4))
    ),
    healthy("lora_zero_b", TUNING, AT_FIRST, lambda: digits(adapted(), adam(3e-3))),
    healthy("top_1_experts", REPORTING, "idle experts", lambda: digits(parts.Experts(), adam(3e-3))),
    healthy("rare_rows_of_a_table", TUNING, "most rows have no gradient", lambda: characters(sparse=False)),
    healthy("sparse_gradients", REPORTING, "sparse tensors as gradients", lambda: characters(sparse=True)),
    healthy(
        "gradient_checkpointing",
        REPORTING,
        "the forward pass runs twice",
        lambda: digits(parts.Checkpointed(nets.residual(4))),
    ),
)
