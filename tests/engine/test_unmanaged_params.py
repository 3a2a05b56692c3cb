# SPDX-License-Identifier: Apache-2.0
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_gradwatch import EventKind, VanishingDetector


class Forgetful(pl.LightningModule):
    """Two layers, of which the optimizer gets one or both."""

    def __init__(self, whole):
        super().__init__()
        self.body, self.head, self.whole = nn.Linear(4, 4), nn.Linear(4, 1), whole

    def training_step(self, batch, batch_idx):
        return self.head(torch.tanh(self.body(batch[0]))).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters() if self.whole else self.head.parameters(), lr=0.01)


def events_of(detector, *, whole=False):
    loader = DataLoader(TensorDataset(torch.randn(24, 4)), batch_size=2)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[detector],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Forgetful(whole), loader)
    return [event for event in detector.events if event.kind is EventKind.NOT_UPDATED]


def test_a_layer_that_no_optimizer_holds_is_named_once():
    (event,) = events_of(VanishingDetector(dead_steps=5))
    assert event.layers == ("body",)
    assert event.step == 5
    assert "in no optimizer" in event.message
    assert "configure_optimizers" in str(event)


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [({}, True), ({"ignore": ["not_updated"]}, False), ({"exclude": "body.*"}, False)],
)
def test_nothing_is_said_if_all_are_held_or_it_is_muted(arguments, whole):
    assert events_of(VanishingDetector(dead_steps=5, **arguments), whole=whole) == []
