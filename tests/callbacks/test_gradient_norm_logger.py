# SPDX-License-Identifier: Apache-2.0
"""`GradientNormLogger`: every tag, against an independent computation, at the steps where `self.log` logs."""

import pytest
import torch

from lightning_gradwatch import ExplosionDetector, GradientNormLogger

LAYERS = ("net.0", "net.3", "net.5")


def ours(log):
    return {tag: values for tag, values in log.points.items() if tag.startswith(("grad", "weight"))}


def last(log, tag):
    return log.points[tag][max(log.points[tag])]


def witness(kit):
    """A Net that notes its gradients before the step, its weights before and after, and what `self.log` got."""

    class Witness(kit.Net):
        def on_before_optimizer_step(self, optimizer):
            self.gradients = {name: p.grad.clone() for name, p in self.named_parameters()}
            self.before = {name: p.detach().clone() for name, p in self.named_parameters()}
            self.log("own", 1.0)

        def layer(self, values, layer):
            return torch.cat([values[f"{layer}.{kind}"].flatten() for kind in ("weight", "bias")]).norm().item()

    torch.manual_seed(1)
    return Witness(lambda p: torch.optim.SGD(p, lr=0.125, momentum=0.9))


@pytest.fixture
def seen(kit):
    """A run of four steps: the module, and the logger with its points."""
    module, log = witness(kit), kit.Memory()
    kit.fit(module, [GradientNormLogger()], steps=4, loader=kit.rows(4), logger=log)
    return module, log


def test_the_total_is_torchs_own(seen):
    module, log = seen
    total = torch.nn.utils.get_total_norm(module.gradients.values()).item()
    assert last(log, "grad_norm/total") == pytest.approx(total, rel=1e-5)
    assert last(log, "grad_norm/total_clipped") == pytest.approx(total, rel=1e-5)


def test_the_largest_entry(seen):
    module, log = seen
    assert last(log, "grad_max/total") == max(g.abs().max().item() for g in module.gradients.values())


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer(seen, layer):
    module, log = seen
    weights = module.layer(module.before, layer)
    change = {name: p.detach() - module.before[name] for name, p in module.named_parameters()}
    assert last(log, f"grad_norm/{layer}") == pytest.approx(module.layer(module.gradients, layer), rel=1e-5)
    assert last(log, f"weight_norm/{layer}") == pytest.approx(weights, rel=1e-5)
    assert last(log, f"grad_update_ratio/{layer}") == pytest.approx(module.layer(change, layer) / weights, rel=1e-4)


def test_depth(seen):
    _, log = seen
    first, *_, end = [last(log, f"grad_norm/{layer}") for layer in LAYERS]
    ratios = [last(log, f"grad_update_ratio/{layer}") for layer in LAYERS]
    assert last(log, "grad_depth/factor") == pytest.approx((first / end) ** 0.5, rel=1e-5)
    assert last(log, "grad_depth/speed_spread") == pytest.approx(max(ratios) / min(ratios), rel=1e-5)


def test_the_epochs_mean_and_maximum(kit):
    log = kit.Memory()
    kit.pull([1.0, 5.0, 3.0], [GradientNormLogger()], steps=6, logger=log)
    expected = {"grad_norm_epoch/total_mean": 3.0, "grad_norm_epoch/total_max": 5.0, "grad_max_epoch/total": 2.5}
    assert {tag: points for tag, points in log.points.items() if "_epoch/" in tag} == {
        tag: {2: value, 5: value} for tag, value in expected.items()
    }


def test_a_long_epoch_has_its_mean_and_maximum_too(kit):
    log = kit.Memory()
    kit.pull([float(norm) for norm in range(1, 601)], [GradientNormLogger()], logger=log)
    assert log.points["grad_norm_epoch/total_mean"] == {599: pytest.approx(300.5)}
    assert log.points["grad_norm_epoch/total_max"] == {599: 600.0}


def test_the_largest_entry_is_looked_for_at_logged_steps_only(kit):
    log = kit.Memory()
    kit.pull([9.0, 5.0, 3.0, 1.0], [GradientNormLogger(every_n_steps=2)], logger=log)  # entries of half the norm
    assert log.points["grad_max/total"] == {1: 2.5, 3: 0.5}
    assert log.points["grad_max_epoch/total"] == {3: 2.5}
    assert log.points["grad_norm_epoch/total_max"] == {3: 9.0}


def test_nonfinite_steps_do_not_spoil_the_epoch(kit):
    log = kit.Memory()
    kit.pull([1.0, float("nan"), 3.0], [GradientNormLogger(), ExplosionDetector()], logger=log)
    assert log.points["grad_norm_epoch/total_mean"] == {2: 2.0}


def test_no_other_tag_is_logged(seen):
    _, log = seen
    layers = {f"{stem}/{layer}" for stem in ("grad_norm", "weight_norm", "grad_update_ratio") for layer in LAYERS}
    headline = {"grad_norm/total", "grad_norm/total_clipped", "grad_max/total", "grad_depth/factor"}
    epoch = {"grad_norm_epoch/total_mean", "grad_norm_epoch/total_max", "grad_max_epoch/total"}
    assert ours(log).keys() == layers | headline | epoch | {"grad_depth/speed_spread"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"log_every_n_steps": 3},
        {"accumulate_grad_batches": 2},
        {"accumulate_grad_batches": 3, "log_every_n_steps": 2},
    ],
    ids=str,
)
def test_points_fall_where_those_of_self_log_fall(kit, settings):
    log = kit.Memory()
    kit.fit(witness(kit), [GradientNormLogger()], steps=-1, loader=kit.rows(8), logger=log, max_epochs=2, **settings)
    assert log.points["own"].keys() == log.points["grad_norm/total"].keys()
    assert log.points["grad_norm/total"]


def test_its_own_interval(kit):
    log = kit.Memory()
    kit.pull([1.0] * 8, [GradientNormLogger(every_n_steps=3)], logger=log)
    assert list(log.points["grad_norm/total"]) == [2, 5]


def test_logging_may_be_switched_off_in_the_trainer(kit):
    log = kit.Memory()
    kit.pull([1.0] * 4, [GradientNormLogger(), ExplosionDetector()], logger=log, log_every_n_steps=0)
    assert not [tag for tag in ours(log) if "_epoch/" not in tag]


def test_layers_and_ratios_may_be_left_out(kit):
    log = kit.Memory()
    kit.fit(kit.net(), [GradientNormLogger(per_layer=False, update_ratio=False)], steps=2, logger=log)
    assert {"grad_norm/net.0", "grad_update_ratio/net.0", "grad_depth/speed_spread"}.isdisjoint(log.points)


def test_include_and_exclude_choose_layers_and_totals_stay_whole(kit):
    log = kit.Memory()
    callbacks = [GradientNormLogger(include="net.[03].*", exclude="*.bias", name="part"), GradientNormLogger()]
    kit.fit(kit.net(), callbacks, steps=1, logger=log)
    assert {t for t in log.points if t.startswith("grad_norm/") and t.endswith("part")} == {
        "grad_norm/total/part",
        "grad_norm/total_clipped/part",
        "grad_norm/net.0/part",
        "grad_norm/net.3/part",
    }
    assert log.points["grad_norm/total/part"] == log.points["grad_norm/total"]
    assert last(log, "grad_norm/net.0/part") < last(log, "grad_norm/net.0")


def test_headline_values_can_be_monitored(kit, tmp_path):
    stop = kit.pl.callbacks.EarlyStopping(
        "grad_norm/total", mode="min", stopping_threshold=2.0, check_on_train_epoch_end=True
    )
    best = kit.pl.callbacks.ModelCheckpoint(
        tmp_path, monitor="grad_norm_epoch/total_mean", save_on_train_epoch_end=True
    )
    callbacks = [stop, best, GradientNormLogger()]
    trace = kit.pull([4.0, 1.0], callbacks, steps=20, enable_checkpointing=True)
    assert trace.trainer.global_step == 2
    assert best.best_model_score.item() == 2.5


def test_the_progress_bar_shows_the_total(kit):
    trace = kit.pull([4.0, 1.0], [GradientNormLogger(prog_bar=True)])
    assert trace.trainer.progress_bar_metrics["grad_norm/total"] == 1.0


def test_several_loggers_get_the_same(kit):
    logs = [kit.Memory(), kit.Memory()]
    kit.fit(kit.net(), [GradientNormLogger()], steps=3, logger=logs)
    assert logs[0].points == logs[1].points


def test_a_logger_that_raises_is_named_once_and_the_training_goes_on(kit, said):
    class Full(kit.Memory):
        def log_metrics(self, metrics, step=None):
            raise OSError("no space left")

    class Good(kit.Memory):
        """Stands beside the broken one."""

    good = Good()
    trace = kit.pull([1.0] * 5, [GradientNormLogger()], logger=[Full(), good], log_every_n_steps=1)
    assert trace.trainer.global_step == 5
    assert len(good.points["grad_norm/total"]) == 5
    assert (
        said().count("Full failed to write scalars (OSError: no space left); the training goes on without them.") == 1
    )
