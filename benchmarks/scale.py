# SPDX-License-Identifier: Apache-2.0
"""What watching sends between thousands of ranks: ``python -m benchmarks.scale --out benchmarks/results/scale.md``.

A simulation: the real measurement runs as rank 0 of so many, on parameters that are sharded like FSDP2 does it and hold
no memory, and every collective that it asks for is counted instead of carried out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from benchmarks.machine import made_by
from benchmarks.rescue.table import markdown
from lightning_gradwatch.callbacks.detector import SAMPLE_EVERY
from lightning_gradwatch.engine.optimizer_state import SAMPLE, SAMPLE_BYTES, WEIGHTS_EVERY
from lightning_gradwatch.measurement.meter import Meter
from lightning_gradwatch.measurement.updates import UpdateProbe

RANKS = (8, 512, 16_384)
BYTES = 2
"""Of a weight and of a gradient, in bfloat16."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Decoder:
    """A transformer with gated linear units."""

    name: str
    blocks: int
    width: int
    hidden: int
    vocabulary: int = 32_000

    def shapes(self) -> list[tuple[str, Shape]]:
        """Its parameters."""
        square, up, down = (self.width, self.width), (self.hidden, self.width), (self.width, self.hidden)
        block = {"q": square, "k": square, "v": square, "o": square, "gate": up, "up": up, "down": down}
        norms = {"norm_1": (self.width,), "norm_2": (self.width,)}
        blocks = [(f"blocks.{i}.{n}.weight", s) for i in range(self.blocks) for n, s in {**block, **norms}.items()]
        ends = (self.vocabulary, self.width)
        return [("embedding.weight", ends), *blocks, ("norm.weight", (self.width,)), ("head.weight", ends)]


MODELS = (
    Decoder("7 B", blocks=32, width=4096, hidden=11_008),
    Decoder("70 B", blocks=80, width=8192, hidden=24_576),
    Decoder("1 T", blocks=128, width=25_600, hidden=68_608),
)


@dataclass(frozen=True)
class Traffic:
    """Of one rank and optimizer step, on the average.

    Attributes:
        tensors: Parameters of the model.
        numbers: Entries of all of them.
        collectives: All-reduces that watching asks for.
        payload: Bytes that it puts in.
        held: Bytes of gradients that it reads on this rank.
    """

    tensors: int
    numbers: int
    collectives: float
    payload: float
    held: int


@contextmanager
def as_one_of(ranks: int) -> Iterator[DeviceMesh]:
    """A process group in which nobody answers, with this process as its rank 0."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    try:
        yield init_device_mesh("cpu", (ranks,))
    finally:
        dist.destroy_process_group()


def simulated(shapes: list[tuple[str, Shape]], ranks: int) -> Traffic:
    """What the measurements ask for, each counted once and weighed by how often it is taken."""
    sent: list[int] = []
    with as_one_of(ranks) as mesh, patch.object(dist, "all_reduce", lambda t, **_: sent.append(t.nbytes)):
        meter = Meter([(name, _sharded(shape, mesh)) for name, shape in shapes])
        meter.read()
        each_step = len(sent)
        weights = meter.weight_norms()
        now_and_then = len(sent)
        probe = UpdateProbe(meter)
        probe.arm(most=SAMPLE, most_bytes=SAMPLE_BYTES)
        if probe.indices:
            probe.measure(weights)
        held = sum(p.grad.to_local().nbytes for p in meter.parameters if isinstance(p.grad, DTensor))
    shares = [
        1 if i < each_step else 1 / (WEIGHTS_EVERY if i < now_and_then else SAMPLE_EVERY) for i in range(len(sent))
    ]
    payload = sum(share * size for share, size in zip(shares, sent, strict=True))
    return Traffic(len(shapes), sum(prod(shape) for _, shape in shapes), sum(shares), payload, held)


def _sharded(shape: Shape, mesh: DeviceMesh) -> Tensor:
    """A parameter with a gradient, cut along its first dimension."""
    rows = -(-shape[0] // mesh.size())
    whole = torch.empty(shape, device="meta", dtype=torch.bfloat16)
    part = DTensor.from_local(whole[:rows], mesh, [Shard(0)], run_check=False, shape=whole.shape, stride=whole.stride())
    parameter = nn.Parameter(part)
    parameter.grad = torch.empty_like(part)
    return parameter


def table() -> str:
    """Each model on each number of ranks."""
    rows = []
    for model in MODELS:
        for ranks in RANKS:
            found = simulated(model.shapes(), ranks)
            ring = 2 * found.payload * (ranks - 1) / ranks
            trained = 3 * BYTES * found.numbers * (ranks - 1) / ranks
            rows.append(
                [
                    f"{model.name}, {found.tensors} tensors",
                    f"{ranks:,}",
                    f"{found.collectives:.1f}",
                    f"{found.payload / 1e3:.1f} kB",
                    f"{ring / 1e3:.1f} kB",
                    f"{trained / 1e9:,.0f} GB",
                    f"{ring / trained:.1e}",
                    f"{found.held / 1e6:,.1f} MB",
                ]
            )
    head = ["model", "ranks", "all-reduces", "payload", "sent by watching", "sent by training", "share", "read"]
    return markdown(head, rows)


def main() -> None:
    """Simulates, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--out", type=Path)
    out: Path | None = parser.parse_args().out
    start = time.perf_counter()
    text = table()
    print(text)
    if out is not None:
        out.write_text(f"{made_by('make scale', time.perf_counter() - start)}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
