# SPDX-License-Identifier: Apache-2.0
"""`pytorch_lightning` and `lightning.pytorch` hold two copies of every class; the callbacks work in both."""

import math
import subprocess
import sys

import pytest
import torch

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector

PL, LP = "import pytorch_lightning as pl", "import lightning.pytorch as pl"
FIT = """
import torch
from torch.utils.data import DataLoader, TensorDataset
class M(pl.LightningModule):
    def __init__(self):
        super().__init__(); self.w = torch.nn.Parameter(torch.ones(4))
    def training_step(self, batch, i): return (self.w * batch[0]).sum()
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), 0.1)
callbacks = [GradientNormLogger(), ExplosionDetector(), VanishingDetector(), AdaptiveClipper(), LRDecay(gamma=0.5)]
assert all(isinstance(callback, pl.Callback) for callback in callbacks)
trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False, max_epochs=2, callbacks=callbacks)
trainer.fit(M(), DataLoader(TensorDataset(torch.tensor([1.0, float("nan"), 1.0]))))
assert [event.step for event in callbacks[1].events if event.severity == "alarm"] == [1, 4]
"""
OURS = "from lightning_gradwatch import *"


def five():
    return [GradientNormLogger(), ExplosionDetector(), VanishingDetector(), AdaptiveClipper(), LRDecay(gamma=0.5)]


def test_all_five_work_in_both(namespace):
    callbacks, log = five(), namespace.Memory()
    trace = namespace.pull([1.0, math.nan, 2.0], callbacks, logger=log)
    assert all(isinstance(callback, namespace.pl.Callback) for callback in callbacks)
    assert namespace.found(callbacks[1]) == [("nonfinite", "alarm", 1)]
    assert trace.norms == [1.0, None, 2.0]
    assert log.points["grad_norm/total"][2] == 2.0


def test_stop_and_checkpoints_work_in_both(namespace, tmp_path):
    detector = ExplosionDetector(action="stop", max_norm=4.0)
    trace = namespace.pull([1.0, 8.0], [detector], min_steps=2)
    trace.trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = ExplosionDetector(action="stop", max_norm=4.0)
    namespace.fit(namespace.Lever(), [other], steps=1, loader=namespace.column([1.0]), ckpt_path=tmp_path / "a.ckpt")
    assert other.tripped == detector.tripped
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["callbacks"].keys() == {detector.state_key}


ORDERS = {
    "pytorch_lightning first": [PL, OURS, FIT],
    "lightning first": [LP, OURS, FIT],
    "ours before pytorch_lightning": [OURS, PL, FIT],
    "ours before lightning": [OURS, LP, FIT],
    "both, used with the second": [PL, LP, OURS, FIT],
}


@pytest.mark.parametrize("parts", ORDERS.values(), ids=ORDERS)
def test_any_order_of_imports(parts):
    code = "\n".join(["import warnings", "warnings.simplefilter('ignore')", *parts])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_loaded_namespace_is_not_joined_by_the_other():
    code = (
        "import sys, pytorch_lightning\n"
        "from lightning_gradwatch import *\n"
        "assert 'lightning.pytorch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
