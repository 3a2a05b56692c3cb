# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in certain architectures and precisions only."""

from __future__ import annotations

import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from benchmarks.zoo.core import Batch, Run
from benchmarks.zoo.families.generative import evidence
from benchmarks.zoo.fault import NOTHING, TOO_LARGE, fault

QUIET = (*NOTHING, "same_output")
ROUNDED = (*NOTHING, "precision", "lost_updates")


@fault("left out", QUIET, "collapse", "loss formula", needs=["latent"], subtle=True)
def posterior_collapse(run: Run) -> None:
    """The divergence weighs 1,000 times as much: the latent code is ignored."""
    run.task.criterion = lambda out, batch: evidence(out, batch, 10.0)


@fault("tuning", QUIET, "collapse", "detached", needs=["latent"])
def latent_ignored(run: Run) -> None:
    """The decoder gets noise, not the code."""

    def model(net: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = net.get_submodule("encoder")(batch[0]).chunk(2, 1)
        return net.get_submodule("decoder")(torch.randn_like(mean)), mean, spread

    run.task.model = model


@fault("left out", QUIET, "collapse", "initialisation", "dead units", needs=["router"], still=True)
@torch.no_grad()
def router_collapse(run: Run) -> None:
    """Two experts are always chosen: the others never learn."""
    run.net.get_parameter("router.bias").copy_(torch.tensor([30.0, 30.0, -30.0, -30.0]))
    run.task.criterion = lambda out, batch: torch.nn.functional.cross_entropy(out[0], batch[1])
    run.layer = "net.experts.[23]"


@fault("tuning", NOTHING, "detached", needs=["rivals"])
def generator_detached(run: Run) -> None:
    """What the generator made is detached for its own turn, too."""
    run.output(lambda out: out.detach() + 0.0 * out)
    run.layer = "net.generator*"


@fault("left out", (*NOTHING, *TOO_LARGE), "loss formula", needs=["rivals"])
def critic_cheered(run: Run) -> None:
    """The generator is rewarded for being found out."""
    inner = run.task.criterion
    run.task.criterion = lambda judged, batch: -inner(judged, batch)


@fault("left out", (*NOTHING, *TOO_LARGE), "loss formula", needs=["policy"])
def advantage_reversed(run: Run) -> None:
    """Rewards are costs."""
    inner = run.task.criterion
    run.task.criterion = lambda out, batch: inner((out[0], out[1], -out[2], out[3]), batch)


@fault("tuning", TOO_LARGE, "loss formula", "targets not scaled", needs=["policy"], rescue=True)
def rewards_x1000(run: Run) -> None:
    """Rewards in another unit."""
    inner = run.task.criterion
    run.task.criterion = lambda out, batch: inner((out[0], out[1], 1e3 * out[2], out[3]), batch)


@fault("left out", ("scaler_stuck", *TOO_LARGE), "precision", "inputs not scaled", needs=["plain", "float inputs"])
def fp16_overflow(run: Run) -> None:
    """Activations beyond 65,504 in half precision: the scaler cannot help."""
    scaler = torch.amp.GradScaler("cpu")
    run.trainer["plugins"] = [MixedPrecision("16-mixed", "cpu", scaler)]
    run.feed(x=lambda x: 1e5 * x)


@fault("left out", ROUNDED, "precision", "rate too low", needs=["plain", "float inputs"], unless=["several"])
def bf16_loses_updates(run: Run) -> None:
    """Weights in bfloat16 at a rate whose steps are below their last digit."""
    run.rate *= 1e-3
    convert(run, torch.bfloat16)


@fault("tuning", ROUNDED, "precision", "loss formula", needs=["plain", "classes", "float inputs", "sgd"])
def fp16_underflow(run: Run) -> None:
    """Half precision without a scaler, and a loss of a hundred-thousandth."""
    convert(run, torch.float16)
    run.wrap(lambda loss, _: 1e-6 * loss)


def convert(run: Run, dtype: torch.dtype) -> None:
    """Weights and inputs in another precision; outputs in the usual one."""
    run.net.to(dtype)
    run.feed(x=lambda x: x.to(dtype))
    run.output(lambda out: out.float())
    model, criterion = run.task.model, run.task.criterion
    run.judge = lambda net, batch: criterion(model(net, batch), batch)
