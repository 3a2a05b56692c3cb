# SPDX-License-Identifier: Apache-2.0
"""The rate, its course, and what multiplies it."""

from __future__ import annotations

from benchmarks.zoo.core import Params, Run
from benchmarks.zoo.fault import NOTHING, TOO_LARGE, fault
from benchmarks.zoo.faults.find import adjust

STANDS = NOTHING
LATER = 0.5
"""The share of a run at which late faults set in."""


@fault("tuning", TOO_LARGE, "rate too high", rescue=True)
def rate_x100(run: Run) -> None:
    """A rate of 100 times what suits."""
    run.rate *= 100


@fault("left out", TOO_LARGE, "rate too high", rescue=True)
def rate_x1000(run: Run) -> None:
    """A rate of 1,000 times what suits."""
    run.rate *= 1000


@fault("left out", TOO_LARGE, "rate too high", rescue=True)
def rate_x30(run: Run) -> None:
    """A rate of 30 times what suits."""
    run.rate *= 30


def later(run: Run, times: float, share: float = LATER) -> None:
    """Multiplies the rate from a share of the run on."""
    run.onset, before = int(share * run.steps), run.schedule
    run.schedule = lambda step: before(step) * (times if step >= run.onset else 1.0)


@fault("tuning", TOO_LARGE, "rate too high", "schedule", rescue=True)
def rate_typo(run: Run) -> None:
    """A typo in a table of rates: 1,000 times as much from the middle on."""
    later(run, 1000)


@fault("left out", TOO_LARGE, "rate too high", "schedule", rescue=True)
def rate_restored_wrongly(run: Run) -> None:
    """The run goes on from a checkpoint with a fresh optimizer, at 100 times the rate that it was saved at."""
    later(run, 100, 0.4)


@fault("left out", TOO_LARGE, "rate too high", "schedule", rescue=True)
def rate_grows(run: Run) -> None:
    """A decay above 1: 6 % more at each step."""
    before = run.schedule
    run.schedule = lambda step: before(step) * 1.06**step


@fault("tuning", STANDS, "schedule", "rate too low")
def decay_per_step(run: Run) -> None:
    """A decay to a third that was meant per epoch is applied per step."""
    before = run.schedule
    run.schedule = lambda step: before(step) * 0.33**step


@fault("left out", STANDS, "schedule", "rate too low")
def ends_too_early(run: Run) -> None:
    """A schedule over the epochs counts steps: the rate is exactly 0 after the tenth."""
    before = run.schedule
    run.schedule = lambda step: before(step) * max(0.0, 1 - step / 10)


@fault("left out", STANDS, "schedule", "rate too low")
def warm_up_in_samples(run: Run) -> None:
    """A warm-up of 1,000,000 samples that counts steps."""
    before = run.schedule
    run.schedule = lambda step: before(step) * (step + 1) / 1e6


@fault("tuning", STANDS, "rate too low", "schedule")
def rate_tiny(run: Run) -> None:
    """A rate of a millionth of what suits."""
    run.rate *= 1e-6


@fault("tuning", TOO_LARGE, "momentum", "rate too high", needs=["sgd"], rescue=True)
def momentum_0999(run: Run) -> None:
    """A momentum of 0.999 at the rate that suits 0.9."""
    adjust(run, momentum=0.999)
    run.rate *= 2


@fault("left out", (*NOTHING, *TOO_LARGE), "decay", unless=["adafactor", "rmsprop", "adagrad"])
def decay_far_too_strong(run: Run) -> None:
    """The decay takes a third of the weights at each step."""
    adjust(run, weight_decay=0.33 / run.rate)


@fault("tuning", STANDS, "clipping", needs=["sgd"], unless=["manual"])
def clipped_to_nothing(run: Run) -> None:
    """The Trainer clips to a norm of a millionth."""
    run.trainer["gradient_clip_val"] = 1e-6


@fault("tuning", STANDS, "not in optimizer", "rate too low", needs=["plain"], still=True, unless=["several"])
def group_at_rate_zero(run: Run) -> None:
    """A group of its own for the first layer, with a rate of 0."""
    inner, first = run.make, next(iter(run.net.parameters()))

    def make(params: Params, rate: float) -> list[object]:
        (optimizer,) = inner([(n, p) for n, p in params if p is not first], rate)
        optimizer.add_param_group({"params": [first], "lr": 0.0})
        return [optimizer]

    run.make = make  # type: ignore[assignment]
    run.layer = "net.0"
