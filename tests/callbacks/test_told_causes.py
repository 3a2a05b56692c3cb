# SPDX-License-Identifier: Apache-2.0
"""Faults in a real Trainer, and the cause that the first message names."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, VanishingDetector, default_callbacks

STEPS = 160


@pytest.fixture
def first(kit):
    """Trains a small classifier with a fault and gives its first finding."""

    class Classifier(kit.pl.LightningModule):
        def __init__(self, optimizer, loss, between):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
            self.optimizer, self.loss, self.between = optimizer, loss, between

        def training_step(self, batch, batch_idx):
            return self.loss(self.net(batch[0]), batch[1])

        def on_train_batch_end(self, outputs, batch, batch_idx):
            with torch.no_grad():
                self.between(self)

        def configure_optimizers(self):
            made = self.optimizer(self.parameters())
            if isinstance(made, tuple):
                schedule = torch.optim.lr_scheduler.LambdaLR(made[0], made[1])
                return {"optimizer": made[0], "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
            return made

    def run(optimizer, loss=functional.cross_entropy, *, between=lambda module: None, scale=1.0, callbacks=()):
        torch.manual_seed(0)
        means = 2 * torch.randn(4, 8)
        y = torch.randint(0, 4, (STEPS * 16,))
        data = torch.utils.data.TensorDataset(scale * (means[y] + torch.randn(len(y), 8)), y)
        detectors = [ExplosionDetector(nonfinite="warn"), VanishingDetector()]
        loader = torch.utils.data.DataLoader(data, batch_size=16)
        kit.fit(Classifier(optimizer, loss, between), [*detectors, *callbacks], STEPS, loader)
        events = [event for one in detectors for event in one.events if event.severity != "info"]
        return min(events, key=lambda event: event.step, default=None)

    return run


def adam(lr):
    return lambda parameters: torch.optim.Adam(parameters, lr)


def test_a_sound_training_is_told_nothing(first):
    assert first(adam(3e-3)) is None


def test_a_rate_that_falls_to_0_in_the_wrong_unit(first):
    event = first(lambda p: (torch.optim.Adam(p, 3e-3), lambda step: float(step < 10)))
    assert event.kind == "stalled"
    assert event.cause == "the learning rate's schedule: the learning rate fell to 0 at step 10"


@pytest.mark.parametrize("lr", [1.0, 10.0])
def test_a_rate_far_too_high_under_adam(first, lr):
    event = first(adam(lr))
    assert event.cause.startswith("the learning rate is too high")
    assert event.remedies[0].text.startswith("learning rate / ")


def test_a_rate_far_too_low_under_adam(first):
    event = first(adam(1e-9))
    assert event.kind == "stalled"
    assert event.cause.startswith("the learning rate is too low")


def test_weights_that_are_put_back(first):
    kept = {}

    def back(module):
        for name, parameter in module.named_parameters():
            parameter.copy_(kept.setdefault(name, parameter.clone()))

    event = first(adam(3e-3), between=back)
    assert event.kind == "overwritten"
    assert "put back" in event.cause


def test_a_softmax_too_many(first):
    event = first(adam(1e-4), lambda out, y: functional.cross_entropy(out.softmax(1), y))
    assert event.kind == "wrong_loss"


def test_a_mean_over_the_batch(first):
    event = first(adam(3e-3), lambda out, y: functional.cross_entropy(out.mean(0, keepdim=True).expand_as(out), y))
    assert event.kind == "same_output"


def test_a_loss_that_is_divided_twice(first):
    event = first(lambda p: torch.optim.SGD(p, 0.1), lambda out, y: functional.cross_entropy(out, y) / 1e6)
    assert event.cause == "the loss is scaled down: it is 1/1e6 of what the loss function gave"


def test_inputs_in_raw_units(first):
    event = first(adam(1e-3), scale=1e4)
    assert event.kind == "off_scale"
    assert "inputs are far from order 1" in event.cause


def test_gradients_that_nobody_clears(first):
    class Keeps(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):
            pass

    event = first(lambda p: Keeps(p, 3e-3, momentum=0.9))
    assert event.kind in ("diverging", "explosion", "spike", "update_too_large")


def test_the_clipper_in_the_list_takes_no_cause_away(first):
    plain = first(adam(10.0))
    beside = first(adam(10.0), callbacks=[AdaptiveClipper()])
    assert beside.cause.startswith(plain.cause.split(":")[0])


@pytest.mark.parametrize(
    ("norm", "action", "severity"), [(14.0, "warn", "info"), (16.0, "warn", "warning"), (14.0, "clip", "warning")]
)
def test_a_spike_a_little_above_its_limit_is_for_information_where_nobody_acts(kit, norm, action, severity):
    detector = ExplosionDetector(action=action)
    kit.pull([5.0] + [1.0] * 60 + [norm], [detector])
    (event,) = detector.events
    assert (event.kind, event.severity) == ("spike", severity)


def test_a_bad_batch_is_named_beside_the_clipper_as_without_it(kit, said):
    def told(*callbacks):
        kit.pull([1.0] * 5 + [float("nan")], [ExplosionDetector(), *callbacks])
        return [line for line in said().splitlines() if "likely:" in line][-1]

    plain = told()
    assert "batch[0] holds 1 NaN" in plain
    assert told(AdaptiveClipper()) == plain


def test_with_the_clipper_in_the_list_a_nan_in_the_data_is_named_as_without(kit, said):
    loader = kit.rows(6)
    loader.dataset.tensors[0][8 * 3] = float("nan")
    kit.fit(kit.net(), default_callbacks(rescue=True), 6, loader)
    alarm = said()[said().index("ALARM nonfinite") :]
    assert "likely: the input: batch[0] holds 6 NaN" in alarm.splitlines()[3]
