# SPDX-License-Identifier: Apache-2.0
"""`GRADWATCH` in the environment, through the entry points as they are installed, and `default_callbacks`."""

import math
import os
import subprocess
import sys

import pytest
import torch

from lightning_gradwatch import ExplosionDetector, GradientNormLogger, LRDecay, default_callbacks, factory
from lightning_gradwatch.callbacks import autowatch
from lightning_gradwatch.engine.participant import Participant

WATCHERS = ["GradientNormLogger", "ExplosionDetector", "VanishingDetector"]


@pytest.fixture(autouse=True)
def _untold(monkeypatch):
    monkeypatch.setattr(factory, "_told", set())


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setenv("GRADWATCH", "1")


def ours(trainer):
    return [callback for callback in trainer.callbacks if isinstance(callback, Participant)]


def names(trainer):
    return [type(callback).__name__ for callback in ours(trainer)]


def test_one_word_in_the_environment_watches_in_both_namespaces(namespace, watch, said):
    log = namespace.Memory()
    trainer = namespace.pull([1.0, 1.0, math.nan], logger=log).trainer
    assert names(trainer) == WATCHERS
    assert log.points["grad_norm/total"] == {0: 1.0, 1: 1.0, 2: pytest.approx(math.nan, nan_ok=True)}
    assert namespace.found(ours(trainer)[1]) == [("nonfinite", "alarm", 2)]
    assert "acts:   nothing, it only watches" in said()


def test_the_watched_run_is_the_unwatched_one_bit_for_bit(namespace, monkeypatch):
    def run():
        module = namespace.net(lambda p: torch.optim.AdamW(p, lr=0.01))
        trainer = namespace.fit(module, steps=30)
        return names(trainer), namespace.flat(module), torch.get_rng_state()

    none, *bare = run()
    monkeypatch.setenv("GRADWATCH", "1")
    all_three, *watched = run()
    assert (none, all_three) == ([], WATCHERS)
    assert all(torch.equal(a, b) for a, b in zip(bare, watched, strict=True))


TRAIN = """
import sys, time
import {namespace} as pl
before = set(sys.modules)
trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
print([type(c).__name__ for c in trainer.callbacks if type(c).__module__.startswith("lightning_gradwatch")])
print(sorted(name for name in sys.modules.keys() - before if name.startswith("lightning_gradwatch")))
"""


@pytest.mark.parametrize(
    ("value", "namespace"), [(None, "pytorch_lightning"), ("0", "lightning.pytorch"), ("1", "lightning.pytorch")]
)
def test_a_trainer_imports_nothing_of_ours_unless_it_watches(namespace, value):
    environment = {key: kept for key, kept in os.environ.items() if key != "GRADWATCH"}
    environment.update({} if value is None else {"GRADWATCH": value})
    command = [sys.executable, "-W", "ignore", "-c", TRAIN.format(namespace=namespace)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    attached, imported = done.stdout.splitlines()[-2:]
    small = [
        "lightning_gradwatch",
        *(["lightning_gradwatch.environment"] if value else []),
        "lightning_gradwatch.factory",
    ]
    assert attached == ("['AutoWatch']" if value == "1" else "[]")
    assert (imported == str(small)) is (value != "1")
    assert "gradwatch" not in done.stderr or value == "1"


def test_the_own_list_wins_whatever_is_in_it(kit, watch):
    trainer = kit.fit(kit.net(), [LRDecay(gamma=0.5)], steps=2)
    assert names(trainer) == ["LRDecay"]


def test_no_two_of_a_kind_meet_in_one_trainer(kit, watch, tmp_path):
    mine = [GradientNormLogger(), ExplosionDetector()]
    trainer = kit.fit(kit.net(), mine, steps=2)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert ours(trainer) == mine


def test_what_configure_callbacks_brings_along_wins_too(kit, watch):
    class Bringing(kit.Net):
        def configure_callbacks(self):
            return [ExplosionDetector()]

    assert names(kit.fit(Bringing(), steps=2)) == ["ExplosionDetector"]
    trainer = kit.trainer([], 2)
    trainer.fit(kit.net(), kit.rows())
    assert names(trainer) == WATCHERS
    trainer.fit_loop.epoch_loop.max_steps = 4
    trainer.fit(Bringing(), kit.rows())
    assert names(trainer) == ["ExplosionDetector"]


def test_a_second_fit_goes_on_with_the_same_watchers(kit, watch):
    trainer = kit.fit(kit.net(), steps=3)
    first = ours(trainer)
    trainer.fit_loop.epoch_loop.max_steps = 6
    trainer.fit(kit.net(), kit.rows())
    assert ours(trainer) == first
    assert len(first) == 3


def test_checkpoints_stay_last(kit, watch, tmp_path):
    saved = kit.pl.callbacks.ModelCheckpoint(tmp_path)
    assert kit.fit(kit.net(), [saved], steps=1, enable_checkpointing=True).callbacks[-1] is saved


def test_a_resumed_run_goes_on_with_the_statistics(kit, watch, tmp_path):
    def states(steps, **settings):
        module = kit.net()
        module.net[2].p = 0.0  # Lightning does not keep the random numbers of dropout
        trainer = kit.fit(module, steps=steps, **settings)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return torch.load(tmp_path / f"{steps}.ckpt", weights_only=True)["callbacks"]

    def steps_seen(state):
        return state[next(key for key in state if key.startswith("VanishingDetector"))]["rules"]

    assert len(states(20)) == 3
    whole = states(40)
    assert repr(steps_seen(states(40, ckpt_path=tmp_path / "20.ckpt"))) == repr(steps_seen(whole))


@pytest.mark.parametrize("word", ["1", "true", "Yes", " on "])
def test_words_for_on(kit, monkeypatch, word):
    monkeypatch.setenv("GRADWATCH", word)
    assert names(kit.fit(kit.net(), steps=1)) == WATCHERS


@pytest.mark.parametrize("word", ["0", "False", "no", "off"])
def test_words_for_off(kit, monkeypatch, word):
    monkeypatch.setenv("GRADWATCH", word)
    detector = ExplosionDetector(max_norm=1e-9)
    kit.fit(kit.net(), [detector], steps=1)
    assert not detector.events


def test_nothing_in_it_asks_for_nothing(kit, monkeypatch):
    monkeypatch.setenv("GRADWATCH", "")
    detector = ExplosionDetector(max_norm=1e-9)
    assert names(kit.fit(kit.net(), steps=1)) == []
    kit.fit(kit.net(), [detector], steps=1)
    assert len(kit.verdicts(detector)) == 1


def test_any_other_word_is_told_once_and_changes_nothing(kit, monkeypatch, said):
    monkeypatch.setenv("GRADWATCH", "maybe")
    detector = ExplosionDetector(max_norm=1e-9)
    for _ in range(2):
        assert names(kit.fit(kit.net(), steps=1)) == []
    kit.fit(kit.net(), [detector], steps=1)
    assert len(kit.verdicts(detector)) == 1
    assert said().count("GRADWATCH must be 1, ") == 1
    assert "got 'maybe'" in said()


def broken(*_, **__):
    raise OSError("no such thing")


def test_an_error_in_the_factory_leaves_the_trainer_alone_and_is_told_once(kit, watch, monkeypatch, said):
    monkeypatch.setattr(autowatch.AutoWatch, "of", broken)
    for _ in range(2):
        assert names(kit.fit(kit.net(), steps=1)) == []
    assert said().count("no such thing") == 1


def test_an_error_while_attaching_leaves_the_trainer_alone(kit, watch, monkeypatch, said):
    monkeypatch.setattr(autowatch, "watchers", broken)
    assert names(kit.fit(kit.net(), steps=1)) == []
    assert "the training goes on without" in said()


def test_a_trainer_of_a_namespace_imported_later_is_left_alone(kit, watch, monkeypatch, said):
    class Other:
        Callback = type("Callback", (), {})

    monkeypatch.setattr(autowatch, "import_module", lambda _: Other)
    assert names(kit.fit(kit.net(), steps=1)) == []
    assert "Import pytorch_lightning before the first Trainer is made" in said()


def test_validate_test_and_predict_are_not_watched(kit, watch):
    class Evaluated(kit.Net):
        def validation_step(self, batch, batch_idx):
            return batch[0]

    trainer = kit.trainer()
    trainer.validate(Evaluated(), kit.rows(), verbose=False)
    assert names(trainer) == []


def test_default_callbacks_train_and_rescue(namespace):
    lazy, rescued = default_callbacks(), default_callbacks(rescue=True)
    assert [type(callback).__name__ for callback in rescued] == [*WATCHERS, "AdaptiveClipper", "LRDecay"]
    assert namespace.pull([1.0, 1.0, 1e6, math.nan], lazy).norms == [1.0, 1.0, 1e6, None]
    assert namespace.pull([1.0, 1.0, 1e6, math.nan], rescued).norms[2] < 10


def test_default_callbacks_are_new_each_time():
    assert not set(map(id, default_callbacks())) & set(map(id, default_callbacks()))


def test_default_callbacks_take_nothing_but_true_and_false():
    with pytest.raises(TypeError, match="`rescue` must be True or False, got 'no'"):
        default_callbacks(rescue="no")


def test_a_list_of_callbacks_that_serves_two_trainers_begins_anew_in_the_second(kit, watch):
    shared = [kit.Trace()]
    off = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainers = [kit.pl.Trainer(callbacks=shared, max_steps=3, accelerator="cpu", logger=False, **off) for _ in "12"]
    for trainer in trainers:
        trainer.fit(kit.net(), kit.rows())
    first, second = map(ours, trainers)
    assert [type(callback).__name__ for callback in second] == WATCHERS
    assert not {id(callback) for callback in first} & {id(callback) for callback in second}


def test_after_a_tuner_the_list_is_as_it_was(kit, watch):
    class Tuned(kit.Net):
        def __init__(self):
            super().__init__(lambda p: torch.optim.SGD(p, lr=self.lr))
            self.lr = 0.01

    trainer = kit.trainer([], 5)
    before = list(trainer.callbacks)
    kit.pl.tuner.Tuner(trainer).lr_find(Tuned(), kit.rows(), num_training=5, update_attr=False)
    assert trainer.callbacks == before
