# SPDX-License-Identifier: Apache-2.0
"""DeepSpeed without a GPU. Import it in a process that may be spoilt."""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

from pytorch_lightning.strategies import DeepSpeedStrategy, Strategy

os.environ |= {"DS_ACCELERATOR": "cpu", "DS_BUILD_OPS": "0"}


def make(stage: int, **settings: Any) -> Any:
    """A strategy of this ZeRO stage on gloo."""
    import deepspeed
    from lightning_fabric.utilities.seed import reset_seed

    # Nothing is compiled on the way: a test would take minutes.
    deepspeed.ops.__compatible_ops__ = dict.fromkeys(deepspeed.ops.__compatible_ops__, False)

    class CPUDeepSpeed(DeepSpeedStrategy):
        def setup_environment(self) -> None:
            Strategy.setup_environment(self)
            self.setup_distributed()

        def setup_distributed(self) -> None:
            reset_seed()
            self.set_world_ranks()
            self._init_deepspeed_distributed()

        def _get_process_group_backend(self) -> str:
            return "gloo"

        def _setup_model_and_optimizer(self, model: Any, optimizer: Any, lr_scheduler: Any = None) -> tuple[Any, Any]:
            engine, wrapped, *_ = deepspeed.initialize(
                args=argparse.Namespace(device_rank=self.local_rank),
                config=self.config,
                model=model,
                model_parameters=filter(lambda p: p.requires_grad, model.parameters()),
                optimizer=optimizer,
                lr_scheduler=lr_scheduler,
                dist_init_required=False,
            )
            return engine, wrapped

    return CPUDeepSpeed(stage=stage, process_group_backend="gloo", logging_level=logging.ERROR, **settings)
