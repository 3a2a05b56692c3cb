# SPDX-License-Identifier: Apache-2.0
"""The only place that attaches hooks to the user's modules, and takes them off again.

Nothing is attached while nothing is asked for, with one exception: recurrent layers are read one batch in ten, since no
gradient of a weight tells what happens through time. No number of the training changes. What goes wrong in here is told
once and ends the looking, not the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_gradwatch.compat import lightning
from lightning_gradwatch.diagnosis import ForwardProbe, SuppressErrors, TimeProbe, hidden
from lightning_gradwatch.measurement.transfer import Transfer
from lightning_gradwatch.output.console import tell
from lightning_gradwatch.output.failsafe import FailSafe, logger
from lightning_gradwatch.rules.probe_reading import ProbeReading

TIME_EVERY = 10
"""Batches with a step between two looks at recurrent layers."""


class Probes:
    """When to look is the same on all ranks, and so are the numbers that rules get; the rest is of this rank's batch.

    Attributes:
        guard: Catches what goes wrong.
        latest: The latest that was read for the rules; None before the first.
        wanted: Whether a rule wants the units of the next batch read.
    """

    def __init__(self) -> None:
        self.guard = SuppressErrors()
        self.latest: ProbeReading | None = None
        self.wanted = False
        self._failed = False
        self._probes: tuple[ForwardProbe, TimeProbe] | None = None
        self._reads: set[str] = set()  # of this batch: "forward", "time"
        self._sampled = -1  # step axis of the last look at recurrent layers
        self._arrival: tuple[int, list[str], Transfer] | None = None

    def begin(self, trainer: Any, pl_module: nn.Module, *, asked: bool) -> None:
        """Attaches what is to be read of this batch; `asked` for more than the rules want."""
        forward, time = self._probes or self._prepare(trainer, pl_module)
        step = lightning.log_step(trainer)
        if asked or self.wanted:
            self._read("forward", forward)
        if time.layers and step % TIME_EVERY == 0 and step != self._sampled:
            self._sampled = step
            self._read("time", time)

    def end(self, trainer: Any, pl_module: Any) -> None:
        """Takes it off again, and sends what was read on its way. `arrive` must have been called since the last."""
        reads = self._reads
        self.release()
        if reads:
            self._send(reads, trainer.fit_loop.epoch_loop.batch_progress.total.ready, pl_module.device)
        error = self.guard.error
        if error is not None and not self._failed:
            self._failed = True
            what = f"{type(error).__name__}: {error}"
            note = f"[gradwatch] note: looking into the layers failed, no more of it in this run: {what}"
            FailSafe().run("note", "a note could not be printed", logger.warning, "%s", note)

    def release(self) -> None:
        """Leaves no hook behind."""
        if self._reads and self._probes is not None:
            self._reads = set()
            for probe in self._probes:
                probe.detach()

    def arrive(self) -> dict[str, float] | None:
        """What was read of the layers of a batch before; None if nothing was."""
        arrival, self._arrival = self._arrival, None
        if arrival is None or self._probes is None:
            return None
        at, names, transfer = arrival
        parts = {name: values.tolist() for name, values in transfer.arrive().items()}
        forward, time = self._probes
        fading = dict(zip(time.layers, parts["fading"], strict=True)) if "fading" in parts else {}
        flat = None
        if "flat" in parts:
            shares = zip(forward.layers, parts["flat"], strict=True)
            flat = {layer: share for layer, share in shares if share == share}
        self.latest = ProbeReading(at, fading, flat)
        return dict(zip(names, parts["forward"], strict=True)) if "forward" in parts else None

    def state_dict(self) -> dict[str, Any]:
        """What the rules are to see next. `arrive` must have been called."""
        latest = None if self.latest is None else asdict(self.latest)
        return {"latest": latest, "wanted": self.wanted, "sampled": self._sampled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self.latest = None if state["latest"] is None else ProbeReading(**state["latest"])
        self.wanted, self._sampled = state["wanted"], state["sampled"]

    def _prepare(self, trainer: Any, pl_module: nn.Module) -> tuple[ForwardProbe, TimeProbe]:
        recurrent = {name: m for name, m in pl_module.named_modules() if isinstance(m, nn.RNNBase)}
        self._probes = ForwardProbe(pl_module, self.guard), TimeProbe(recurrent, self.guard)
        if _compiled(pl_module):
            self._failed = True
            tell(trainer, "[gradwatch] note: the module is compiled, so its layers are not looked into.")
        return self._probes

    def _read(self, what: str, probe: ForwardProbe | TimeProbe) -> None:
        self._reads.add(what)
        with self.guard:
            if not self._failed:
                probe.attach()

    def _send(self, reads: set[str], at: int, device: torch.device) -> None:
        """Ranks whose look failed send NaN, so that none of them waits for another."""
        assert self._probes is not None
        forward, time = self._probes
        parts: dict[str, Tensor] = {}
        names: list[str] = []
        if "time" in reads:
            parts["fading"] = _mean_over_ranks(_vector(list(time.layers), time.take(), device))
        if "forward" in reads:
            numbers = forward.take()
            names = list(numbers)
            parts["forward"] = _vector(names, numbers, device)
            if self.wanted:
                shares = {layer: numbers[f"flat {f} {layer}"] for what, f, layer in hidden(names) if what == "flat"}
                parts["flat"] = _mean_over_ranks(_vector(forward.layers, shares, device))
            self.wanted = False
        self._arrival = at, names, Transfer(parts)


def _vector(names: Sequence[str], numbers: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """[names] of single numbers; NaN where one is missing."""
    nan = torch.full((), torch.nan, device=device)
    return torch.stack([*(numbers[name].to(nan) if name in numbers else nan for name in names), nan])[:-1]


def _mean_over_ranks(values: Tensor) -> Tensor:
    """The same on all ranks; NaN where any rank has NaN."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values


def _compiled(pl_module: nn.Module) -> bool:
    """Whether hooks would be ignored, or have the module compiled again."""
    whole = getattr(pl_module, "_compiler_ctx", None) is not None
    return whole or any(
        hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) is not None for m in pl_module.modules()
    )
