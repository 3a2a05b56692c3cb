# SPDX-License-Identifier: Apache-2.0
"""The measurement alone against one read of the same bytes, and the kernels that it and a whole step launch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.device import DEVICE, IS_CUDA, microseconds, sized, synchronize
from benchmarks.gpu.training import GPT2, SMALL, WARM_UP, Case, fit
from benchmarks.overhead.single import spread
from benchmarks.overhead.steps import BARE, CLIP, OURS, Variant
from lightning_gradwatch.measurement.meter import Meter

SHAPES = {
    "24 tensors, 123 M": (12, sized(3200, 16)),
    "600 tensors, 123 M": (300, sized(640, 8)),
    "600 tensors, 0.3 M": (300, sized(32, 4)),
}
ACTIVITY = ProfilerActivity.CUDA if IS_CUDA else ProfilerActivity.CPU
PAIRS, PROFILED = sized(9, 1), sized(4, 1)


def meter_of(layers: int, width: int, dtype: torch.dtype) -> tuple[Meter, torch.Tensor]:
    """A meter of gradients, and a flat tensor of the same bytes. Two tensors a layer: half of them small."""
    shapes = [shape for _ in range(layers) for shape in ((width, width), (width,))]
    parameters = [nn.Parameter(torch.empty(shape, dtype=dtype, device=DEVICE)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    flat = torch.randn(sum(p.numel() for p in parameters), dtype=dtype, device=DEVICE)
    return Meter((str(i), p) for i, p in enumerate(parameters)), flat


def reading() -> Iterator[str]:
    """Norms of all tensors against one sum."""
    yield "**The measurement alone**, marks in the stream\n"
    yield "| gradients | one read of the same bytes | norms | ratio | with the largest entry | ratio | launches |"
    yield "|---|---|---|---|---|---|---|"
    for name, (layers, width) in SHAPES.items():
        for dtype in (torch.float32, torch.bfloat16):
            meter, flat = meter_of(layers, width, dtype)
            calls: list[Callable[[], object]] = [flat.sum, meter.read, partial(meter.read, max_abs=True)]
            for call in calls:
                call()
            rows = [[microseconds(call) for call in calls] for _ in range(PAIRS)]
            read, norms, largest = (sorted(column)[len(column) // 2] for column in zip(*rows, strict=True))
            first, second = ([row[i] / row[0] for row in rows] for i in (1, 2))
            yield (
                f"| {name}, {str(dtype).removeprefix('torch.')} | {read:.0f} us | {norms:.0f} us | {spread(first)} "
                f"| {largest:.0f} us | {spread(second)} | {launches(meter)} |"
            )


def launches(meter: Meter) -> int:
    """Kernels and copies of one read."""
    with profile(activities=[ACTIVITY]) as seen:
        meter.read()
        synchronize()
    return sum(map(_on_device, seen.events() or ()))


def _on_device(event: object) -> bool:
    return not IS_CUDA or "CUDA" in str(getattr(event, "device_type", ""))


class Profiled(Callback):
    """Follows the kernels of some steps, once everything is warm.

    Attributes:
        took: Microseconds of each kernel by name, one entry per launch.
    """

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = defaultdict(list)
        self._profile = profile(activities=[ACTIVITY])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Starts and ends the profile between two batches."""
        if batch_idx == WARM_UP:
            synchronize()
            self._profile.start()
        elif batch_idx == WARM_UP + PROFILED:
            synchronize()
            self._profile.stop()
            # torch 2.13 leaves profile.events without annotations, which mypy --strict refuses to call.
            for event in self._profile.events() or ():  # type: ignore[no-untyped-call]
                if _on_device(event):
                    self.took[event.name].append(event.device_time if IS_CUDA else event.cpu_time)


def whole_steps() -> Iterator[str]:
    """Kernels of whole steps, and what ours adds, by name."""
    for case in (GPT2, SMALL):
        yield f"\n**Kernels of a step**, {case.name}\n\n| | kernels | busy |\n|---|---|---|"
        seen = {variant.name: _profiled(case, variant) for variant in (BARE, CLIP, OURS)}
        for name, took in seen.items():
            yield f"| {name} | {_count(took):.1f} | {sum(map(sum, took.values())) / PROFILED / 1e3:.3f} ms |"
        yield "\n| kernel that the five add | launches a step | us each |\n|---|---|---|"
        bare, ours = seen[BARE.name], seen[OURS.name]
        added = {name: len(took) - len(bare.get(name, ())) for name, took in ours.items()}
        for name in sorted((name for name, count in added.items() if count > 0), key=lambda name: -added[name])[:12]:
            each = sum(ours[name]) / len(ours[name])
            yield f"| `{name[:90].replace('|', '/')}` | {added[name] / PROFILED:.1f} | {each:.1f} |"


def _profiled(case: Case, variant: Variant) -> dict[str, list[float]]:
    seen = Profiled()
    fit(case, variant, [seen], fused=False)
    return seen.took


def _count(took: dict[str, list[float]]) -> float:
    return sum(map(len, took.values())) / PROFILED


def lines() -> Iterator[str]:
    """Both."""
    yield from reading()
    yield from whole_steps()
