# SPDX-License-Identifier: Apache-2.0
"""The strategies, as they run on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

from tests.strategies.nets import Net


@dataclass(frozen=True)
class Case:
    """A strategy.

    Attributes:
        name: In the names of tests.
        ranks: Processes.
        make: A new strategy.
        cut: What the module's `configure_model` does.
        rows_cut: Whether rows of weights lie on several ranks, so that unit-wise clipping is refused.
        flat: Whether the parameters of a layer are one flat tensor.
    """

    name: str
    ranks: int
    make: Callable[[], Any]
    cut: Callable[[Net], None] | None = None
    rows_cut: bool = False
    flat: bool = False


class CPUFSDP(FSDPStrategy):
    """FSDP1 without a GPU: Lightning's check is ``type(x) is FSDPStrategy``."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FullyShardedDataParallel

        if "HYBRID" in str(self.sharding_strategy):
            self.kwargs["device_mesh"] = init_device_mesh("cpu", (2, 2))
        return FullyShardedDataParallel(
            module=model,
            cpu_offload=self.cpu_offload,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            device_id=torch.device("cpu"),
            **self.kwargs,
        )


def fsdp1(sharding_strategy: Any = "FULL_SHARD", **settings: Any) -> CPUFSDP:
    return CPUFSDP(
        process_group_backend="gloo",
        auto_wrap_policy={nn.Linear, nn.LayerNorm},
        sharding_strategy=sharding_strategy,
        state_dict_type="sharded",  # a full one crashes torch 2.13 on a CPU
        **settings,
    )


def fsdp2(data: int = 2, tensor: int = 1) -> ModelParallelStrategy:
    return ModelParallelStrategy(
        data_parallel_size=data,
        tensor_parallel_size=tensor,
        process_group_backend="gloo",
        save_distributed_checkpoint=False,
    )


def mesh_of(module: Any) -> Any:
    return module.device_mesh


def shard(net: Net) -> None:
    """Every layer by FSDP2."""
    from torch.distributed.fsdp import fully_shard

    for layer in (net.a, net.norm, net.b, net.c):
        fully_shard(layer, mesh=mesh_of(net)["data_parallel"])
    fully_shard(net, mesh=mesh_of(net)["data_parallel"])


def hybrid(net: Net) -> None:
    """The same, sharded over two ranks and replicated over two."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    for layer in (net.a, net.norm, net.b, net.c, net):
        fully_shard(layer, mesh=mesh)


def tensors(net: Net) -> None:
    """Tensor parallelism: a by columns, b by rows; the norm between on sequences, which makes partial gradients."""
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    mesh = mesh_of(net)["tensor_parallel"]
    parallelize_module(
        net,
        mesh,
        {
            "a": ColwiseParallel(output_layouts=Shard(0)),
            "norm": SequenceParallel(sequence_dim=0),
            "b": RowwiseParallel(input_layouts=Shard(0), output_layouts=Replicate()),
            "c": RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate()),
        },
    )


def both(net: Net) -> None:
    """Tensor parallelism within, FSDP2 across, four ranks."""
    from torch.distributed.fsdp import fully_shard

    tensors(net)
    for layer in (net.a, net.norm, net.b, net.c, net):
        fully_shard(layer, mesh=mesh_of(net)["data_parallel"])


def some_tensors(net: Net) -> None:
    """One layer of DTensors among plain ones."""
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    parallelize_module(net, mesh_of(net)["tensor_parallel"], {"b": ColwiseParallel(output_layouts=Replicate())})


SINGLE = Case("single", 1, lambda: "auto")
CASES = [
    Case("ddp", 2, lambda: DDPStrategy(process_group_backend="gloo")),
    Case("ddp_find_unused", 2, lambda: DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)),
    Case("ddp_static_graph", 2, lambda: DDPStrategy(process_group_backend="gloo", static_graph=True)),
    Case("ddp_bucket_view", 2, lambda: DDPStrategy(process_group_backend="gloo", gradient_as_bucket_view=True)),
    Case("fsdp1", 2, fsdp1, rows_cut=True),
    Case("fsdp1_flat", 2, lambda: fsdp1(use_orig_params=False), rows_cut=True, flat=True),
    Case("fsdp1_grad_op", 2, lambda: fsdp1("SHARD_GRAD_OP"), rows_cut=True),
    Case("fsdp1_no_shard", 2, lambda: fsdp1("NO_SHARD")),
    Case("fsdp1_hybrid", 4, lambda: fsdp1("HYBRID_SHARD"), rows_cut=True),
    Case("fsdp2", 2, fsdp2, shard),
    Case("fsdp2_hybrid", 4, lambda: fsdp2(data=4), hybrid),
    Case("tensor_parallel", 2, lambda: fsdp2(data=1, tensor=2), tensors, rows_cut=True),
    Case("fsdp2_tensor_parallel", 4, lambda: fsdp2(data=2, tensor=2), both, rows_cut=True),
    Case("mixed", 2, lambda: fsdp2(data=1, tensor=2), some_tensors),
]
