# SPDX-License-Identifier: Apache-2.0
"""What every callback that the package exports must do; a new one is in here by being exported."""

import copy
import inspect
import io
import math
import pickle

import pytest
import torch
from pytorch_lightning import Callback

import lightning_gradwatch
from lightning_gradwatch import ExplosionDetector

EXPORTED = [getattr(lightning_gradwatch, name) for name in lightning_gradwatch.__all__]
CALLBACKS = [cls for cls in EXPORTED if isinstance(cls, type) and issubclass(cls, Callback)]
each_callback = pytest.mark.parametrize("cls", CALLBACKS, ids=lambda cls: cls.__name__)


def company(cls):
    """What must be in the list with it."""
    return [] if cls is ExplosionDetector else [ExplosionDetector(name="company")]


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


class Gan:
    """Manual optimization: both optimizers step in every batch, each on a loss that reaches the other's weights."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        x, y = batch
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(torch.nn.functional.mse_loss(self.net(x), y))
            optimizer.step()

    def configure_optimizers(self):
        halves = list(self.net[:3].parameters()), list(self.net[3:].parameters())
        return [torch.optim.SGD(half, lr=0.01) for half in halves]


MODES = {
    "no logger": ({}, None),
    "every other scalar": ({"log_every_n_steps": 2}, None),
    "whole windows": ({"accumulate_grad_batches": 2}, None),
    "a short last window": ({"accumulate_grad_batches": 3}, None),
    "fast_dev_run": ({"fast_dev_run": True}, None),
    "bf16": ({"precision": "bf16-mixed"}, None),
    "lbfgs": ({}, lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3)),
    "fused": ({}, lambda p: torch.optim.AdamW(p, lr=0.01, fused=True)),
    "clipped by the Trainer": ({"gradient_clip_val": 1.0}, None),
}


@each_callback
@pytest.mark.parametrize(("settings", "optimizer"), MODES.values(), ids=MODES)
def test_it_works_in_every_mode(kit, cls, settings, optimizer):
    if "gradient_clip_val" in settings and cls.__name__ == "AdaptiveClipper":
        pytest.skip("refused, which has its own test")
    module, callback = kit.net(optimizer), cls()
    trainer = kit.fit(module, [callback, *company(cls)], steps=-1, loader=kit.rows(4), **{**settings, "max_epochs": 2})
    assert trainer.state.status == "finished"
    steps = 1 if "fast_dev_run" in settings else 2 * math.ceil(4 / settings.get("accumulate_grad_batches", 1))
    assert trainer.global_step == steps
    assert kit.flat(module).isfinite().all()
    assert through_a_file(callback.state_dict()).keys() == callback.state_dict().keys()


@each_callback
def test_it_works_under_manual_optimization_with_two_optimizers(kit, cls):
    module = type("GanNet", (Gan, kit.Net), {})()
    callback = cls()
    trainer = kit.fit(module, [callback, *company(cls)], steps=8, logger=kit.Memory())
    assert trainer.global_step == 8
    fresh = cls()
    fresh.load_state_dict(through_a_file(callback.state_dict()))
    assert repr(fresh.state_dict()) == repr(callback.state_dict())


@each_callback
def test_csv(kit, cls, tmp_path):
    kit.fit(kit.net(), [cls(), *company(cls)], steps=4, logger=kit.pl.loggers.CSVLogger(tmp_path))
    assert next(tmp_path.rglob("metrics.csv"), None) is not None or cls.__name__.endswith("Detector")


@each_callback
def test_two_instances_with_names_live_side_by_side(kit, cls, tmp_path):
    both = [cls(name=name) for name in "ab"]
    trainer = kit.fit(kit.net(), [*both, *company(cls)], steps=4)
    trainer.save_checkpoint(tmp_path / "both.ckpt")
    saved = torch.load(tmp_path / "both.ckpt", weights_only=True)["callbacks"]
    assert {callback.state_key for callback in both} <= saved.keys()
    assert both[0].state_key != both[1].state_key


@each_callback
def test_two_instances_without_names_are_refused_by_lightning(kit, cls):
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        kit.trainer([cls(), cls()])


@each_callback
def test_configure_callbacks_may_add_it(kit, cls):
    class Configured(kit.Net):
        def configure_callbacks(self):
            return [callback]

    callback = cls()
    kit.fit(Configured(), company(cls), steps=4)
    state = repr(callback.state_dict())
    assert state != repr(cls().state_dict()) or cls.__name__ == "LRDecay"


@each_callback
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["deepcopy", "pickle"])
def test_it_can_be_copied_before_and_after_a_fit(kit, cls, copied):
    callback = copied(cls())
    kit.fit(kit.net(), [callback, *company(cls)], steps=6)
    for name in ("log", "log_dict"):  # by which Lightning ties every callback to the module
        delattr(callback, name)
    assert repr(copied(callback).state_dict()) == repr(callback.state_dict())
    kit.fit(kit.net(), [copied(callback), *company(cls)], steps=6)


@each_callback
def test_gradwatch_0_switches_it_off(kit, cls, monkeypatch, said):
    monkeypatch.setenv("GRADWATCH", "0")
    callback, log = cls(), kit.Memory()
    trainer = kit.fit(kit.net(), [callback, *company(cls)], steps=4, logger=log)
    assert repr(callback.state_dict()) == repr(cls().state_dict())
    assert not [tag for tag in log.points if tag.startswith("grad")]
    assert not trainer.optimizers[0]._optimizer_step_pre_hooks
    assert said() == ""


@each_callback
@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_nothing_is_said_or_checked_outside_of_fit(kit, cls, said, stage):
    class Evaluated(kit.Net):
        def validation_step(self, batch, batch_idx):
            return batch[0]

        test_step = predict_step = validation_step

    trainer = kit.trainer([cls()], gradient_clip_val=1.0)  # which a clipper refuses, as LRDecay refuses to be alone
    getattr(trainer, stage)(Evaluated(), kit.rows(1), **({} if stage == "predict" else {"verbose": False}))
    assert said() == ""


@each_callback
def test_it_cleans_up_after_itself(kit, cls):
    trainer = kit.fit(kit.net(), [cls(), *company(cls)], steps=4)
    (optimizer,) = trainer.optimizers
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not {"found_inf", "grad_scale"} & vars(optimizer).keys()


@each_callback
def test_an_error_of_the_user_passes_and_leaves_no_hooks(kit, cls):
    class Broken(kit.Net):
        def training_step(self, batch, batch_idx):
            if batch_idx == 2:
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

    trainer = kit.trainer([cls(), *company(cls)], 9)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Broken(), kit.rows(4))
    assert not trainer.optimizers[0]._optimizer_step_pre_hooks
    assert not trainer.optimizers[0]._optimizer_step_post_hooks


@each_callback
def test_it_is_documented_and_typed(cls):
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    assert all(p.annotation is not p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)
    assert all(p.default is not p.empty for p in parameters)
    documented = inspect.getdoc(cls)
    assert not [p.name for p in parameters if f"\n    {p.name}: " not in documented]
