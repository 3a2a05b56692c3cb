# SPDX-License-Identifier: Apache-2.0
"""DeepSpeed's ZeRO: this rank's fragments of weights and gradients, which the parameters themselves do not show.

DeepSpeed hangs its bookkeeping on the parameters and on its optimizer, so nothing is imported. Read on DeepSpeed 0.19.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_engine(optimizer: object) -> bool:
    """Whether DeepSpeed's engine has wrapped the optimizer, steps it by itself and clips by a limit of its own."""
    return not hasattr(optimizer, "register_step_post_hook") and hasattr(optimizer, "clip_grad")


def is_partitioned(parameter: Tensor) -> bool:
    """Whether ZeRO, stage 1 to 3, keeps the parameter's gradient."""
    return hasattr(parameter, "_hp_mapping") or hasattr(parameter, "ds_id")


def groups(optimizer: Any) -> list[list[Tensor]]:
    """The parameters of each parameter group; ZeRO's own groups hold flat fragments instead."""
    whole = getattr(optimizer, "bit16_groups", None) or getattr(optimizer, "bf16_groups", None)
    if whole is not None:
        return [list(group) for group in whole]
    if hasattr(optimizer, "sub_group_to_group_id"):  # stage 3
        found: dict[int, list[Tensor]] = {}
        for i, part in enumerate(optimizer.fp16_groups):
            found.setdefault(optimizer.sub_group_to_group_id[i], []).extend(part)
        return list(found.values())
    return [list(group["params"]) for group in optimizer.param_groups]


def shape(parameter: Any) -> tuple[int, ...]:
    """The whole shape; that of stage 3's own parameters is empty."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def weight(parameter: Any) -> Tensor:
    """This rank's fragment of the weights in full precision, flat; empty where it holds none."""
    if hasattr(parameter, "ds_id"):
        return _unpadded(parameter, parameter._z3_optimizer.get_local_fp32_param(parameter))
    mapping = parameter._hp_mapping
    return _nothing(parameter) if mapping is None else mapping.hp_fragment


def gradient(parameter: Any) -> Tensor | None:
    """This rank's fragment of the averaged gradient, flat; None between two boundaries of accumulation."""
    if hasattr(parameter, "ds_id"):
        return _unpadded(parameter, parameter._z3_optimizer.get_local_fp32_grad_for_param(parameter))
    mapping = parameter._hp_mapping
    if mapping is None:
        return _nothing(parameter)
    try:
        fragment: Tensor = mapping.get_lp_grad_fragment(parameter._index_in_param_group).flatten()
    except ValueError:
        return None
    address = mapping.lp_fragment_address  # the bf16 optimizer keeps the whole gradient on each rank
    return fragment if len(fragment) == address.numel else fragment.narrow(0, address.start, address.numel)


def loss_scale(optimizer: Any) -> float | None:
    """What the engine multiplies the gradients by; None outside of fp16."""
    return float(optimizer.loss_scale) if getattr(optimizer, "dtype", None) is torch.float16 else None


def limit(optimizer: Any) -> float:
    """The norm to which the engine clips; 0 where it does not."""
    return float(optimizer.clip_grad)


def set_limit(optimizer: Any, max_norm: float) -> None:
    """Has the engine clip to another norm from its next step on."""
    optimizer.clip_grad = max_norm


def skips_nonfinite(optimizer: Any) -> bool:
    """Whether the engine skips a step with a non-finite gradient; under bf16 that can be switched off."""
    return getattr(optimizer, "dtype", None) is not torch.bfloat16 or getattr(optimizer, "check_grad_overflow", True)


def _nothing(parameter: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.float32, device=parameter.device)


def _unpadded(parameter: Any, fragment: Tensor) -> Tensor:
    """Without what fills the last rank's fragment up to the size of the others."""
    start = dist.get_rank(parameter.ds_process_group) * fragment.numel()
    return fragment.flatten()[: max(0, parameter.ds_numel - start)]
