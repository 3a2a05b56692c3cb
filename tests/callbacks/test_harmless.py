# SPDX-License-Identifier: Apache-2.0
"""Watching changes nothing, nor does the order of the list; a resumed run decides as an uninterrupted one."""

import io
import math
import random

import numpy as np
import pytest
import torch

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector, GradientNormLogger, LRDecay, VanishingDetector

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}


def watchers():
    logger = GradientNormLogger(every_n_steps=1, histograms_every_n_steps=6)
    return [logger, ExplosionDetector(nonfinite="warn"), VanishingDetector(), ExplosionDetector(name="second")]


def five(*, diagnose=True):
    detector = ExplosionDetector(action="skip", max_norm=30.0)
    detector.diagnose = diagnose
    vanishing = VanishingDetector(diagnose=diagnose)
    return [GradientNormLogger(), detector, vanishing, AdaptiveClipper(), LRDecay(gamma=0.98, every=3)]


def remains(module, trainer):
    """Everything that a run leaves: weights, optimizer state, random numbers."""
    states = [v for o in trainer.optimizers for state in o.state.values() for v in state.values()]
    tensors = [v for v in states if isinstance(v, torch.Tensor)]
    return [*module.parameters(), *tensors, torch.get_rng_state()]


def poisoned(kit):
    """Batches of which some explode and some are broken."""
    loader = kit.rows(40)
    x = loader.dataset.tensors[1]
    for batch, factor in {24: 1e3, 25: 1e3, 30: math.nan, 33: 1e6}.items():
        x[8 * batch : 8 * batch + 8] *= factor
    return loader


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 3}], ids=str)
def test_watchers_leave_everything_bit_identical(kit, tmp_path, optimizer, settings):
    ends = []
    for callbacks in ([], watchers()):
        random.seed(0)
        np.random.seed(0)
        module, board = kit.net(optimizer), kit.pl.loggers.TensorBoardLogger(tmp_path)
        trainer = kit.fit(module, callbacks, steps=12, logger=board, **settings)
        ends.append((remains(module, trainer), random.random(), np.random.rand()))
    (plain, *numbers), (watched, *other_numbers) = ends
    assert len(plain) == len(watched)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert numbers == other_numbers


def test_the_order_of_the_list_makes_no_difference(kit):
    def run(order):
        log, trace, callbacks = kit.Memory(), kit.Trace(), five()
        module = kit.net(OPTIMIZERS["adamw"])
        foreign = [trace, kit.pl.callbacks.LearningRateMonitor()]
        listed = [*callbacks, *foreign]
        trainer = kit.fit(module, [listed[i] for i in order], steps=40, loader=poisoned(kit), logger=log)
        states = [callback.state_dict() for callback in callbacks]
        return remains(module, trainer), trace.norms, log.points, repr(states), [c.events for c in callbacks[1:3]]

    rng = random.Random(1)
    tensors, norms, points, states, events = run(range(7))
    assert {event.kind.value for event in events[0]} >= {"spike", "explosion", "nonfinite"}
    for _ in range(5):
        order = rng.sample(range(7), 7)
        other, *rest = run(order)
        assert all(torch.equal(a, b) for a, b in zip(tensors, other, strict=True)), order
        assert repr(rest) == repr([norms, points, states, events]), order


def resumed(kit, tmp_path, at, *, diagnose=False, **settings):
    """What two runs leave: one as a whole, one that was saved and killed after `at` batches and went on from there."""

    class Kill(kit.pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == at:
                trainer.save_checkpoint(path)
                raise KeyError

    def run(callbacks, **kwargs):
        module = kit.net(OPTIMIZERS["adamw"])
        module.net[2].p = 0.0  # Lightning does not keep the random numbers of dropout
        trainer = kit.fit(module, callbacks, loader=poisoned(kit), steps=60, **settings, **kwargs)
        return module, trainer

    path = tmp_path / "killed.ckpt"
    whole, second = five(diagnose=diagnose), five(diagnose=diagnose)
    module, trainer = run(whole)
    with pytest.raises(KeyError):
        run([*five(diagnose=diagnose), Kill()])
    other_module, other_trainer = run(second, ckpt_path=path)
    return [
        (remains(m, t)[:-1], [repr(c.state_dict()) for c in callbacks])
        for m, t, callbacks in ((module, trainer, whole), (other_module, other_trainer, second))
    ]


@pytest.mark.parametrize("at", [7, 27, 31, 40, 52])
def test_a_resumed_run_is_the_uninterrupted_one(kit, tmp_path, at):
    (tensors, states), (other_tensors, other_states) = resumed(kit, tmp_path, at)
    assert all(torch.equal(a, b) for a, b in zip(tensors, other_tensors, strict=True))
    assert states == other_states


def test_a_diagnosis_under_way_survives_a_resume(kit, tmp_path):
    (_, states), (_, other_states) = resumed(kit, tmp_path, 27, diagnose=True)
    assert states == other_states


def test_resuming_under_accumulation_is_exact_too(kit, tmp_path):
    (tensors, states), (other_tensors, other_states) = resumed(kit, tmp_path, 28, accumulate_grad_batches=2)
    assert all(torch.equal(a, b) for a, b in zip(tensors, other_tensors, strict=True))
    assert states == other_states


def test_a_checkpoint_is_read_with_weights_only(kit, tmp_path):
    callbacks = five()
    trainer = kit.fit(kit.net(), callbacks, steps=40, loader=poisoned(kit))
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    checkpoint = torch.load(tmp_path / "whole.ckpt", weights_only=True)
    assert set(checkpoint["callbacks"]) == {callback.state_key for callback in callbacks}


def test_state_of_another_version_is_refused_with_advice():
    detector = ExplosionDetector()
    with pytest.raises(
        Exception, match=r"version 99 .* of ExplosionDetector, this release reads version 1\. Resume with"
    ):
        detector.load_state_dict({**detector.state_dict(), "version": 99})


def test_a_checkpoint_without_our_state_starts_fresh(kit, tmp_path):
    kit.fit(kit.net(), steps=5).save_checkpoint(tmp_path / "bare.ckpt")
    detector = ExplosionDetector(max_norm=1e-6)
    kit.fit(kit.net(), [detector], steps=8, ckpt_path=tmp_path / "bare.ckpt")
    assert [event.step for event in kit.verdicts(detector)] == [5, 6, 7]


def test_changed_limits_do_not_orphan_the_state(kit, tmp_path):
    first = ExplosionDetector(max_norm=1e-6)
    kit.fit(kit.net(), [first], steps=5).save_checkpoint(tmp_path / "a.ckpt")
    second = ExplosionDetector(max_norm=1e6, patience=3)
    kit.fit(kit.net(), [second], steps=8, ckpt_path=tmp_path / "a.ckpt")
    assert [event.step for event in kit.verdicts(second)] == [0, 1, 2, 3, 4]


def test_the_state_goes_through_a_file_unchanged(kit):
    callbacks = five()
    kit.fit(kit.net(), callbacks, steps=40, loader=poisoned(kit))
    for callback, fresh in zip(callbacks, five(), strict=True):
        buffer = io.BytesIO()
        torch.save(callback.state_dict(), buffer)
        buffer.seek(0)
        fresh.load_state_dict(torch.load(buffer, weights_only=True))
        assert repr(fresh.state_dict()) == repr(callback.state_dict())
