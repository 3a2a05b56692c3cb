# SPDX-License-Identifier: Apache-2.0
"""`Rewind`: what it puts back, when, and that it is harmless where nothing is wrong.

Kept every 5 steps and good 5 steps later: a run that is ruined at its 19th batch goes back from step 19 to step 10.
"""

import copy
import importlib
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch.optim import lr_scheduler as sched
from torch.utils.data import DataLoader, TensorDataset

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientExplosionError,
    GradientNormLogger,
    GradwatchError,
    LRDecay,
    Rewind,
    VanishingDetector,
)

BAD, BACK = 18, 10
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}
SCHEDULERS = {
    "StepLR": lambda o: sched.StepLR(o, 4, 0.5),
    "LambdaLR": lambda o: sched.LambdaLR(o, lambda i: 1 / (1 + i)),
    "CosineAnnealingWarmRestarts": lambda o: sched.CosineAnnealingWarmRestarts(o, 7),
    "OneCycleLR": lambda o: sched.OneCycleLR(o, 0.5, total_steps=60),
    "CyclicLR": lambda o: sched.CyclicLR(o, 0.1, 0.5, step_size_up=3),
    "ChainedScheduler": lambda o: sched.ChainedScheduler([sched.StepLR(o, 3, 0.5), sched.LinearLR(o, total_iters=6)]),
    "SequentialLR": lambda o: sched.SequentialLR(
        o, [sched.LinearLR(o, total_iters=4), sched.ExponentialLR(o, 0.9)], milestones=[14]
    ),
    "ReduceLROnPlateau": lambda o: sched.ReduceLROnPlateau(o, patience=0, factor=0.5, mode="max"),
}


def rewind(**settings):
    return Rewind(**{"keep_every_n_steps": 5, "healthy_steps": 5, **settings})


def ruin(kit, *batches):
    """Writes NaN into a weight right before these batches."""

    class Ruin(kit.pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.fit_loop.epoch_loop.total_batch_idx in batches:
                with torch.no_grad():
                    next(pl_module.parameters()).view(-1)[0] = math.nan

    return Ruin()


def states(kit):
    """Has everything that a rewind puts back, copied at the end of each batch."""

    class States(kit.pl.Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, pl_module, *_):
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            everything = (
                pl_module.state_dict(),
                [o.state_dict() for o in trainer.optimizers],
                [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
                scaler and scaler.state_dict(),
            )
            self.seen.append(repr(copy.deepcopy(everything)))

    return States()


def scheduled(kit, optimizer, scheduler=None):
    """A Net without dropout, with a schedule by steps."""

    class Scheduled(kit.Net):
        def training_step(self, batch, batch_idx):
            self.log("loss", float(batch_idx))
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            made = optimizer(self.parameters())
            if scheduler is None:
                return made
            return [made], [{"scheduler": scheduler(made), "interval": "step", "monitor": "loss"}]

    torch.manual_seed(1)
    module = Scheduled()
    module.net[2].p = 0.0
    return module


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_weights_and_optimizer_states_are_those_of_the_step(kit, optimizer):
    back, trace = rewind(), states(kit)
    kit.fit(scheduled(kit, optimizer), [back, ExplosionDetector(), ruin(kit, BAD), trace], 20)
    assert back.rewinds == [(BAD + 1, BACK)]
    assert "nan" not in trace.seen[BAD]
    assert trace.seen[BAD] == trace.seen[BACK - 1]


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_schedules_are_those_of_the_step(kit, scheduler):
    back, trace = rewind(), states(kit)
    kit.fit(scheduled(kit, OPTIMIZERS["sgd"], scheduler), [back, ExplosionDetector(), ruin(kit, BAD), trace], 30)
    ((start, end),) = back.rewinds
    assert trace.seen[start - 1] == trace.seen[end - 1]


@pytest.mark.parametrize("fused", [False, True])
def test_the_scale_of_a_grad_scaler_is_that_of_the_step(kit, fused):
    precision = importlib.import_module(f"{kit.pl.__name__}.plugins.precision").MixedPrecision
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4)
    back, trace = rewind(), states(kit)
    module = scheduled(kit, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=fused))
    plugin = precision("16-mixed", "cpu", scaler)
    kit.fit(module, [back, ExplosionDetector(), ruin(kit, BAD), trace], 30, plugins=[plugin])
    ((start, end),) = back.rewinds
    assert end == BACK
    assert trace.seen[start - 1] == trace.seen[BACK - 1]


@pytest.mark.parametrize("others", [[], [LRDecay]], ids=["alone", "beside LRDecay"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_goes_on_as_a_run_that_never_saw_the_batches_between_at_the_lowered_rate(kit, optimizer, others):
    back, module = rewind(backoff=0.25), scheduled(kit, OPTIMIZERS[optimizer])
    loader = kit.rows(30)
    callbacks = [back, ExplosionDetector(), ruin(kit, BAD), *(cls() for cls in others)]
    kit.fit(module, callbacks, 30, loader)
    assert back.rewinds == [(BAD + 1, BACK)]

    class Slower(kit.pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == BACK:
                trainer.optimizers[0].param_groups[0]["lr"] *= 0.25

    kept = [i for i in range(30) if not BACK <= i <= BAD]
    x, y = (t.unflatten(0, (30, 8))[kept].flatten(0, 1) for t in loader.dataset.tensors)
    other = scheduled(kit, OPTIMIZERS[optimizer])
    kit.fit(other, [Slower()], len(kept), DataLoader(TensorDataset(x, y), 8))
    assert torch.equal(kit.flat(module), kit.flat(other))


def test_the_rate_is_lowered_once_and_further_each_time(kit):
    decay = LRDecay(backoff=0.5)
    log = kit.Memory()
    callbacks = [rewind(backoff=0.5), ExplosionDetector(), decay, ruin(kit, BAD, 21, 24)]
    kit.fit(scheduled(kit, OPTIMIZERS["sgd"]), callbacks, 30, kit.rows(30), logger=log)
    scale = log.points["grad_lr/scale"]
    assert callbacks[0].rewinds == [(19, BACK), (22, BACK), (25, BACK)]
    assert [scale[step] for step in (17, 19, 22, 25)] == [1.0, 0.5, 0.25, 0.125]


def test_what_our_callbacks_learned_goes_back_but_not_what_they_found(kit):
    back, detector, clipper = rewind(), ExplosionDetector(), AdaptiveClipper()
    learned = []

    class Learned(kit.pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            learned.append(repr((detector.learned(), clipper.learned())))

    kit.fit(kit.net(), [detector, clipper, back, ruin(kit, BAD), Learned()], 19)
    assert learned[BAD] == learned[BACK - 1]
    assert kit.found(detector) == [("nonfinite", "alarm", BAD)]
    assert (detector.counts, back.counts) == ({"nonfinite": 1}, {"rewound": 1})


def test_a_step_that_replaces_the_weights_is_taken_back_at_once(kit):
    loader = kit.rows(30)
    loader.dataset.tensors[1][8 * BAD : 8 * BAD + 8] *= 1e4
    back, module = rewind(), scheduled(kit, OPTIMIZERS["sgd"])
    kit.fit(module, [back, ExplosionDetector()], 30, loader)
    assert back.rewinds == [(BAD + 2, BACK)]


def test_a_loss_that_does_not_come_back_is_taken_back_and_one_that_does_is_not(kit):
    """The weights are moved by hand, so that the loss is 100 times what it was, or for 3 batches only."""

    class Shift(kit.pl.Callback):
        def __init__(self, *moves):
            self.moves = dict(moves)

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            with torch.no_grad():
                pl_module.net[-1].bias += self.moves.get(batch_idx, 0.0)

    def run(*moves):
        back = rewind(recovery_steps=6)
        module = scheduled(kit, lambda p: torch.optim.SGD(p, lr=1e-4))
        kit.fit(module, [back, ExplosionDetector(), Shift(*moves)], 60, kit.rows(60))
        return back.rewinds

    assert run((40, 30.0)) == [(47, 35)]
    assert run((40, 30.0), (43, -30.0)) == []


def test_a_bad_batch_alone_is_no_reason(kit):
    loader = kit.rows(40)
    loader.dataset.tensors[1][8 * 20 : 8 * 22] *= math.nan
    back = rewind()
    kit.fit(kit.net(), [back, ExplosionDetector()], 40, loader)
    assert back.rewinds == []


def test_data_that_is_broken_for_good_uses_up_one_rewind_not_all(kit):
    loader = kit.rows(60)
    loader.dataset.tensors[1][8 * 20 :] *= math.nan
    back = rewind()
    trainer = kit.trainer([back, ExplosionDetector(max_skips=10)], 60)
    with pytest.raises(GradientExplosionError, match="10 steps in a row were skipped"):
        trainer.fit(kit.net(), loader)
    assert len(back.rewinds) == 1


def test_running_statistics_that_a_bad_batch_broke_are_mended(kit):
    class Normed(kit.Net):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(self.net[0], torch.nn.BatchNorm1d(8), *self.net[1:])

    loader = kit.rows(40)
    loader.dataset.tensors[0][8 * 20] *= math.nan
    bare, back = Normed(), rewind()
    kit.fit(bare, [], 40, loader)
    assert bare.net[1].running_mean.isnan().all()
    module = Normed()
    kit.fit(module, [ExplosionDetector(nonfinite="warn"), back], 40, loader)
    assert back.rewinds[0] == (21, 15)
    assert module.net[1].running_mean.isfinite().all()


def test_a_teacher_that_is_moved_by_hand_is_put_back_too(kit):
    class Taught(kit.Net):
        def __init__(self):
            super().__init__()
            self.base, self.teacher = torch.nn.Linear(6, 1), copy.deepcopy(self.net[0])
            self.base.requires_grad_(False)
            self.teacher.requires_grad_(False)

        def on_train_batch_end(self, *_):
            for mine, theirs in zip(self.teacher.parameters(), self.net[0].parameters(), strict=True):
                mine.lerp_(theirs.detach(), 0.1)

    back = rewind()
    module = Taught()
    kit.fit(module, [back, ExplosionDetector(), ruin(kit, BAD)], 30)
    assert back.rewinds == [(BAD + 1, BACK)]
    assert module.teacher.weight.isfinite().all()


def test_after_the_last_rewind_it_aborts_with_the_good_weights_and_says_all(kit):
    back, module = rewind(max_rewinds=2), kit.net()
    trainer = kit.trainer([back, ExplosionDetector(), ruin(kit, 12, 13, 14)], 30)
    with pytest.raises(GradientExplosionError) as raised:
        trainer.fit(module, kit.rows())
    text = str(raised.value)
    assert "the weights are ruined: NaN or inf in the weights or buffers" in text
    assert "after:  nonfinite of step 14: NaN in all 3 layers" in text
    assert "so far: step 13 to 5, step 14 to 5" in text
    assert "training aborted after 2 rewinds, weights those of step 5" in text
    assert back.tripped is raised.value.event
    assert kit.flat(module).isfinite().all()


def test_each_rewind_is_told_counted_and_written_down(kit, said, tmp_path):
    heard = []

    class Listener(kit.pl.Callback):
        def on_gradient_event(self, trainer, pl_module, event):
            heard.append((event.kind.value, event.step, kit.flat(pl_module).isfinite().all().item()))

    board = kit.pl.loggers.TensorBoardLogger(tmp_path)
    callbacks = [Listener(), rewind(), ExplosionDetector(), ruin(kit, 12, 16)]
    kit.fit(kit.net(), callbacks, 20, logger=board)
    did = "rewound to step 5 (1 of at most 5); the 8 steps since are given up, their batches passed over"
    assert f"did:    {did}; learning rate x0.25" in said()
    assert "rewound to step 5 (2 of at most 5); the 12 steps" in said()
    assert "20 optimizer steps: 2 nonfinite, 2 rewound; learning rate backed off after an event at 6 steps" in said()
    assert "went back to earlier weights at 2 steps" in said()
    assert heard == [("nonfinite", 12, False), ("rewound", 12, True), ("nonfinite", 16, False), ("rewound", 16, True)]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("events*"))
    assert b"grad_event/rewound" in written
    assert did.encode() in written


def test_an_abort_that_the_user_asked_for_beats_a_rewind(kit):
    back = rewind()
    trainer = kit.trainer([back, ExplosionDetector(nonfinite="abort"), ruin(kit, BAD)], 30)
    with pytest.raises(GradientExplosionError, match="training aborted, weights from before this step"):
        trainer.fit(kit.net(), kit.rows())
    assert back.rewinds == []


def test_a_stop_beats_it_too_also_under_manual_optimization(kit):
    class Manual(kit.Net):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    for module in (Manual(), kit.net()):
        back = rewind()
        trainer = kit.fit(module, [back, ExplosionDetector(nonfinite="stop"), ruin(kit, BAD)], 30)
        assert (back.rewinds, trainer.global_step) == ([], BAD)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_several_optimizers_under_manual_optimization(kit, accumulate):
    class Gan(kit.Net):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            for optimizer in self.optimizers():
                self.manual_backward(super().training_step(batch, batch_idx))
                if batch_idx % accumulate == accumulate - 1:
                    optimizer.step()
                    optimizer.zero_grad()

        def configure_optimizers(self):
            return [
                torch.optim.Adam(self.net[:3].parameters(), lr=0.01),
                torch.optim.SGD(self.net[3:].parameters(), lr=0.01, momentum=0.9),
            ]

    back, trace, module = rewind(), states(kit), Gan()
    kit.fit(module, [back, ExplosionDetector(), ruin(kit, BAD), trace], 40, kit.rows(40))
    ((start, end),) = back.rewinds
    assert trace.seen[start // 2 * accumulate - 1] == trace.seen[end // 2 * accumulate - 1]
    assert kit.flat(module).isfinite().all()


def test_accumulated_gradients_of_ruined_weights_are_dropped(kit):
    back, trace = rewind(keep_every_n_steps=2, healthy_steps=2), states(kit)
    callbacks = [back, ExplosionDetector(), ruin(kit, 14), trace]
    kit.fit(scheduled(kit, OPTIMIZERS["adamw"]), callbacks, 10, accumulate_grad_batches=2)
    assert back.rewinds == [(8, 4)]
    assert trace.seen[15] == trace.seen[7]


def test_with_no_alarm_the_run_is_bit_identical(kit):
    for optimizer in OPTIMIZERS.values():
        ends = []
        for callbacks in ([], [ExplosionDetector(nonfinite="warn"), rewind(keep_every_n_steps=2, healthy_steps=1)]):
            module = kit.net(optimizer)
            trainer = kit.fit(module, callbacks, 12)
            momenta = [v for s in trainer.optimizers[0].state.values() for v in s.values()]
            tensors = [v for v in momenta if isinstance(v, torch.Tensor)]
            ends.append([*module.parameters(), *tensors, torch.get_rng_state()])
        assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_the_order_of_the_list_makes_no_difference(kit):
    def run(order):
        ours = [rewind(), ExplosionDetector(), VanishingDetector(), LRDecay(), AdaptiveClipper(), GradientNormLogger()]
        module, log = kit.net(OPTIMIZERS["adamw"]), kit.Memory()
        kit.fit(module, [ruin(kit, 12, 25), *(ours[i] for i in order)], 40, kit.rows(40), logger=log)
        return kit.flat(module), repr((ours[0].rewinds, [c.state_dict() for c in ours], log.points))

    weights, rest = run(range(6))
    for order in ([5, 4, 3, 2, 1, 0], [1, 0, 3, 5, 2, 4], [3, 1, 4, 0, 5, 2]):
        other, other_rest = run(order)
        assert torch.equal(weights, other)
        assert other_rest == rest


def test_a_checkpoint_keeps_the_count_and_the_rate_and_a_resumed_run_keeps_a_state_of_its_own(kit, tmp_path):
    first, module = rewind(), scheduled(kit, OPTIMIZERS["sgd"])
    kit.fit(module, [first, ExplosionDetector(), ruin(kit, 12)], 20).save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    second, log = rewind(max_rewinds=2), kit.Memory()
    others = [ExplosionDetector(), ruin(kit, 22, 24)]
    trainer = kit.trainer([second, *others], 40, logger=log)
    with pytest.raises(GradientExplosionError, match="so far: step 13 to 5, step 23 to 20"):
        trainer.fit(scheduled(kit, OPTIMIZERS["sgd"]), kit.rows(), ckpt_path=tmp_path / "a.ckpt")
    assert second.rewinds == [(13, 5), (23, 20)]
    assert [log.points["grad_lr/scale"][step] for step in (20, 23)] == [0.25, 0.0625]


def test_nothing_is_left_after_a_fit(kit):
    back = rewind()
    kit.fit(kit.net(), [back, ExplosionDetector()], 20)
    assert (back._generations, back.nbytes) == (None, 0)


def test_without_a_detector_it_is_refused(kit):
    with pytest.raises(GradwatchError, match=r"no ExplosionDetector is in the Trainer's callbacks .* Add an Expl"):
        kit.fit(kit.net(), [Rewind()], 1)


def digits(kit, rate, batches=()):
    """Accuracy after 6 epochs on real data; before the inputs of some batches come in another unit."""

    class Classifier(kit.Base):
        def __init__(self):
            super().__init__(lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9))
            self.net = torch.nn.Sequential(
                torch.nn.Linear(64, 64),
                torch.nn.ReLU(),
                torch.nn.Linear(64, 64),
                torch.nn.ReLU(),
                torch.nn.Linear(64, 10),
            )

        def training_step(self, batch, batch_idx):
            x, y = batch
            x = x * (1e4 if self.global_step in batches else 1.0)
            return torch.nn.functional.cross_entropy(self.net(x), y)

    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x).float() / 16, torch.tensor(y))

    def accuracy(callbacks):
        torch.manual_seed(2)
        module = Classifier()
        kit.fit(module, callbacks, -1, DataLoader(data, 32, shuffle=True), max_epochs=6)
        return (module.net(data.tensors[0]).argmax(1) == data.tensors[1]).float().mean().item()

    return accuracy


def test_a_run_that_dies_of_a_bad_batch_ends_well(kit):
    accuracy = digits(kit, 0.05, batches=[150])
    assert accuracy([ExplosionDetector()]) < 0.3
    back = Rewind(keep_every_n_steps=20, healthy_steps=50)
    assert accuracy([ExplosionDetector(), back]) > 0.8
    assert len(back.rewinds) == 1


def test_a_run_that_dies_of_its_learning_rate_ends_well(kit):
    accuracy = digits(kit, 3.0)
    assert accuracy([ExplosionDetector(), VanishingDetector()]) < 0.3
    assert accuracy([ExplosionDetector(), VanishingDetector(), Rewind()]) > 0.8


@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
def test_on_disk_it_does_the_same_and_leaves_nothing(kit, tmp_path, optimizer):
    seen = []

    class Files(kit.pl.Callback):
        def on_train_batch_end(self, *_):
            seen.append(sorted(path.name for path in tmp_path.rglob("*.pt")))
            for path in tmp_path.rglob("*.pt"):
                torch.load(path, weights_only=True)

    back, trace = rewind(dirpath=str(tmp_path)), states(kit)
    module = scheduled(kit, OPTIMIZERS[optimizer])
    kit.fit(module, [back, ExplosionDetector(), ruin(kit, BAD), trace, Files()], 20)
    assert back.rewinds == [(BAD + 1, BACK)]
    assert trace.seen[BAD] == trace.seen[BACK - 1]
    assert seen[-1] == ["0.pt", "1.pt"]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_costs_a_newer_state_and_not_the_run(kit, tmp_path, said):
    class Full(kit.pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 9:
                for path in tmp_path.rglob("0.pt"):  # the place of the next state
                    path.unlink()
                    path.mkdir()

    back = rewind(dirpath=str(tmp_path))
    kit.fit(kit.net(), [back, ExplosionDetector(), ruin(kit, BAD), Full()], 20)
    assert back.rewinds == [(BAD + 1, 5)]
    assert "Rewind could not write to" in said()


def test_the_average_that_another_callback_keeps_is_put_back_too(kit):
    class Average(kit.pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            self.model = torch.optim.swa_utils.AveragedModel(pl_module.net)
            self.seen = []

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.model.update_parameters(pl_module.net)
            self.seen.append(kit.flat(self.model))

    average = Average()
    back = rewind()
    kit.fit(kit.net(), [average, back, ExplosionDetector(), ruin(kit, BAD)], 19)
    assert back.rewinds == [(BAD + 1, BACK)]
    assert average.seen[BAD].isnan().any()
    assert torch.equal(kit.flat(average.model), average.seen[BACK - 1])


def test_the_frozen_base_of_an_adapter_is_not_kept_until_it_moves(kit):
    sizes = []

    class Adapted(kit.Net):
        def __init__(self):
            super().__init__()
            self.base = torch.nn.Linear(100, 100).requires_grad_(False)

    class Sizes(kit.pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, batch, *_):
            sizes.append(back.nbytes)
            if trainer.global_step == 11:
                pl_module.base.weight.mul_(0.5)

    back = rewind()
    kit.fit(Adapted(), [back, ExplosionDetector(), Sizes()], 30)
    assert sizes[0] < 4 * 100 * 100 < sizes[-1]


def test_layers_that_are_unfrozen_in_between_are_put_back_to_what_they_were(kit):
    class Thaw(kit.pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 3:
                pl_module.net[0].requires_grad_(True)

    module = kit.net()
    module.net[0].requires_grad_(False)
    back, trace = rewind(keep_every_n_steps=50), states(kit)
    kit.fit(module, [Thaw(), back, ExplosionDetector(), ruin(kit, 8), trace], 12)
    assert back.rewinds == [(9, 4)]
    assert trace.seen[8] == trace.seen[3]


def test_a_rewind_at_the_end_of_an_epoch_saves_what_the_last_step_ruined(kit, tmp_path):
    class Last(kit.pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 19:
                pl_module.net[0].weight.data.fill_(math.nan)

    back, module = rewind(), kit.net()
    saved = kit.pl.callbacks.ModelCheckpoint(tmp_path, filename="end")
    kit.fit(module, [Last(), back, ExplosionDetector(), saved], -1, max_epochs=1, enable_checkpointing=True)
    assert len(back.rewinds) == 1
    assert kit.flat(module).isfinite().all()
    weights = torch.load(tmp_path / "end.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in weights.values())


def test_what_somebody_ruins_between_two_epochs_is_put_back_before_the_next(kit):
    class Between(kit.pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                pl_module.net[0].weight.data.fill_(math.nan)

    back, module = rewind(), kit.net()
    kit.fit(module, [Between(), back, ExplosionDetector()], -1, loader=kit.rows(12), max_epochs=2)
    assert back.rewinds == [(12, 5)]
    assert kit.flat(module).isfinite().all()


def test_a_disk_that_takes_nothing_at_all_is_an_error_at_the_start(kit, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(GradwatchError, match="could not write the state of the run to its `dirpath`"):
        kit.fit(kit.net(), [rewind(dirpath=str(tmp_path)), ExplosionDetector()], 20)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_argument_is_refused():
    with pytest.raises(TypeError, match="`dirpath` must be a folder or None, got 3"):
        Rewind(dirpath=3)
    for settings in ({"max_rewinds": 0}, {"backoff": 1.0}, {"recovery_steps": 5}, {"keep_every_n_steps": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must be"):
            Rewind(**settings)
