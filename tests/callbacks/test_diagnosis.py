# SPDX-License-Identifier: Apache-2.0
"""An alarm is looked into: hooks for three batches, a cause in words, and nothing at all while all is well."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_gradwatch import ExplosionDetector, GradientNormLogger, VanishingDetector
from lightning_gradwatch.diagnosis import ForwardProbe, TimeProbe
from lightning_gradwatch.engine.session import Session

WINDOW = 10  # a short one, so that verdicts come after 20 steps


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1e-3)


def classifier(kit, net, optimizer=sgd, batch=None):
    """A module that classifies `batch(i)` (inputs [16, 8] unless given) into labels that are noise, and its loader."""

    class Noise(kit.pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net

        def training_step(self, batch, batch_idx):
            x, y = batch
            return functional.cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            return optimizer(self.parameters())

    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn(16, 8, generator=generator) if batch is None else batch(i) for i in range(120)]
    labels = [torch.randint(0, 4, (16,), generator=generator) for _ in inputs]
    return Noise(), torch.utils.data.DataLoader(list(zip(inputs, labels, strict=True)), batch_size=None)


def fit(kit, net, steps, callbacks=None, **options):
    """The events of a fit: of all detectors, in order."""
    module, loader = classifier(kit, net, **options)
    detectors = (
        [VanishingDetector(window=WINDOW, dead_steps=10), ExplosionDetector(window=WINDOW)]
        if callbacks is None
        else callbacks
    )
    kit.fit(module, detectors, steps, loader)
    events = [event for d in detectors if hasattr(d, "events") for event in d.events]
    return sorted(events, key=lambda event: event.step)


def result(events, kind):
    """The one result of looking into findings of this kind."""
    (told,) = [e for e in events if e.kind == kind and e.message.startswith("diagnosed from 3 batches after the ")]
    assert told.severity == "info"
    return told


def stack(*sizes, act):
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), act()]
    return nn.Sequential(*layers[:-1])


def hooks(module):
    """All hooks on all modules."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(part, name)) for part in module.modules() for name in names)


class Called(nn.Module):
    """Activation functions that are no modules."""

    def __init__(self, function, bias=0.0):
        super().__init__()
        self.first, self.second, self.function = nn.Linear(8, 8), nn.Linear(8, 4), function
        nn.init.constant_(self.first.bias, bias)

    def forward(self, x):
        return self.second(self.function(self.first(x)))


def test_a_deep_sigmoid_net_is_explained(namespace, said):
    events = fit(namespace, stack(*[8] * 14, 4, act=nn.Sigmoid), 60)
    told = result(events, "vanishing")
    assert told.cause == "sigmoid derivatives of at most 1/4, multiplied over 13 layers; no normalisation layer"
    assert told.remedies[0].id == "GW-01"
    assert f"INFO vanishing: step {told.step} (epoch 0, batch {told.step}): diagnosed from 3 batches" in said()
    (alarm,) = [e for e in events if e.kind == "vanishing" and e.severity == "alarm"]
    assert told.step == alarm.step + 4  # three batches, whose last numbers are there a step later


def test_standard_normal_weights_are_named(kit):
    torch.manual_seed(0)
    net = stack(8, 64, 64, 4, act=nn.Tanh)
    for p in net.parameters():
        nn.init.normal_(p)
    events = fit(kit, net, 80, optimizer=lambda p: torch.optim.SGD(p, lr=1e-6))
    alarm = next(e for e in events if e.kind == "saturated")
    assert (alarm.severity, alarm.layers[0]) == ("alarm", "net.2")
    assert result(events, "saturated").cause.startswith(
        "N(0, 1) weights in net.2, net.4: 7.5 to 8 times what preserves the variance; 77 %"
    )


@pytest.mark.parametrize("function", [nn.ReLU(), functional.relu], ids=["module", "function"])
def test_dead_units_are_told_with_their_layer(kit, function):
    told = result(fit(kit, Called(function, bias=-10.0), 20), "dead")
    assert (told.cause, told.layers) == ("100 % of the ReLUs silent after net.first", ("net.first",))
    assert told.remedies[0].text == "a bias of 0 or slightly above"


def test_large_inputs_are_told_with_the_units_that_they_saturate(kit):
    torch.manual_seed(0)
    events = fit(kit, Called(torch.sigmoid), 80, batch=lambda i: torch.full((16, 8), 300.0))
    assert [e.severity for e in events if e.kind == "saturated"] == ["alarm", "info"]
    assert result(events, "saturated").cause == (
        "100 % of the sigmoid outputs saturated after net.first: the inputs are large, batch[0] has rms 300"
    )


@pytest.mark.parametrize(
    ("path", "wrap"),
    [
        ("batch", lambda x: x),
        ("batch[1]", lambda x: [torch.ones(1), x]),
        ('batch["x"]', lambda x: {"id": torch.tensor(1), "x": x}),
    ],
    ids=["tensor", "list", "dictionary"],
)
def test_a_bad_batch_is_named_at_once(kit, path, wrap):
    class Module(kit.Lever):
        def training_step(self, batch, batch_idx):
            x = batch["x"] if isinstance(batch, dict) else batch
            return (self.w * (x[-1] if isinstance(x, list) else x).mean()).sum()

    bad = torch.tensor([1.0, math.nan, math.nan, math.nan])
    batches = [wrap(bad if i == 3 else torch.ones(4)) for i in range(10)]
    detector = ExplosionDetector()
    kit.fit(Module(), [detector], 8, torch.utils.data.DataLoader(batches, batch_size=None))
    first = detector.events[0]
    assert (first.kind, first.step, first.batch_idx) == ("nonfinite", 3, 3)
    assert first.cause == f"the input: {path} holds 3 NaN; the loss was NaN before the backward pass"
    assert first.remedies[0].text == "drop or repair the batch"


def test_a_sound_batch_points_at_the_loss(kit):
    class Module(kit.Lever):
        def training_step(self, batch, batch_idx):
            return (self.w * (batch[0].mean() - 1).log()).sum()

    detector = ExplosionDetector()
    kit.fit(Module(), [detector], 2, kit.column([1.0] * 4))
    assert detector.events[0].cause.endswith("before the backward pass; the inputs are finite")
    assert detector.events[0].remedies[0].id == "GW-10"


def test_the_batch_of_a_spike_is_held_against_the_next(kit):
    detector = ExplosionDetector()
    kit.fit(kit.Lever(), [detector], 45, kit.column([1.0] * 30 + [1e3] + [1.0] * 20))
    assert result(detector.events, "spike").cause == (
        "an outlier batch: batch[0] of batch 30 has 1e3 times the rms of those that followed"
    )


def test_an_embedding_does_not_end_the_look(kit, said):
    net = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(8, 4))
    tokens = torch.arange(32).reshape(16, 2) % 10
    detector = ExplosionDetector(max_norm=1e-6)
    events = fit(kit, net, 8, callbacks=[detector], batch=lambda i: tokens)
    assert any(event.message.startswith("diagnosed from 3 batches") for event in events)
    assert "failed" not in said()


class Recurrent(nn.Module):
    """A recurrent layer read out at its last step."""

    def __init__(self, layer, radius=None):
        super().__init__()
        self.rnn, self.head = layer(4, 16, batch_first=True), nn.Linear(16, 4)
        if radius:
            nn.init.orthogonal_(self.rnn.weight_hh_l0, radius)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def sequences(i):
    return torch.randn(16, 60, 4, generator=torch.Generator().manual_seed(i))


def test_a_gradient_that_fades_through_time_is_an_alarm(namespace):
    events = fit(namespace, Recurrent(nn.RNN, 0.3), 120, callbacks=[VanishingDetector(window=50)], batch=sequences)
    (alarm,) = [e for e in events if e.kind == "vanishing_in_time"]
    assert (alarm.severity, alarm.layers, alarm.step) == ("alarm", ("net.rnn",), 99)
    assert alarm.value < 1e-15


def test_an_lstm_that_learns_is_left_alone(kit):
    torch.manual_seed(0)

    class Recall(kit.pl.LightningModule):
        """Is the last number positive?"""

        def __init__(self):
            super().__init__()
            self.net = Recurrent(nn.LSTM)

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.net(batch), (batch[:, -1, 0] > 0).long())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    detectors = [VanishingDetector(window=WINDOW), ExplosionDetector(window=WINDOW)]
    loader = torch.utils.data.DataLoader([sequences(i) for i in range(60)], batch_size=None)
    kit.fit(Recall(), detectors, 60, loader)
    assert [e.kind.value for d in detectors for e in d.events if e.severity != "info"] == []


class Count:
    """Counts hooks while batches run, mixed into a callback; the forward pass is where they would be."""

    def __init__(self):
        self.hooks = []

    def on_before_backward(self, trainer, pl_module, loss):
        self.hooks.append(hooks(pl_module))


def counter(kit):
    return type("Count", (Count, kit.pl.Callback), {})()


def test_a_healthy_run_has_no_hook_at_any_time(kit):
    class Sign(kit.pl.LightningModule):
        """Is the sum of the numbers positive?"""

        def __init__(self):
            super().__init__()
            self.net = Called(torch.tanh)

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.net(batch[0]), (batch[0].sum(1) > 0).long())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    torch.manual_seed(0)
    count, module = counter(kit), Sign()
    kit.fit(
        module,
        [VanishingDetector(), ExplosionDetector(), GradientNormLogger(), count],
        120,
        classifier(kit, nn.Linear(8, 4))[1],
    )
    assert count.hooks == [0] * 120


def test_hooks_are_there_for_three_batches_after_an_alarm_and_once_only(kit):
    count = counter(kit)
    detector = ExplosionDetector(max_norm=1e-6, window=WINDOW)
    module = kit.net()
    kit.fit(module, [detector, count], 20)
    assert [i for i, n in enumerate(count.hooks) if n] == [1, 2, 3]
    assert len([e for e in detector.events if e.message.startswith("diagnosed")]) == 1
    assert hooks(module) == 0


def test_recurrent_layers_are_read_one_batch_in_ten(kit):
    count = counter(kit)
    fit(kit, Recurrent(nn.GRU), 25, callbacks=[VanishingDetector(), count], batch=sequences)
    assert [i for i, n in enumerate(count.hooks) if n] == [0, 10, 20]


def test_diagnose_false_attaches_nothing(kit):
    count = counter(kit)
    detector = VanishingDetector(window=WINDOW, dead_steps=10, diagnose=False)
    events = fit(
        kit, nn.Sequential(Recurrent(nn.RNN, 0.1), nn.ReLU()), 40, callbacks=[detector, count], batch=sequences
    )
    assert not any(count.hooks)
    assert [e for e in events if e.severity == "info" or e.kind == "vanishing_in_time"] == []


@pytest.mark.parametrize(
    ("net", "batch"),
    [
        (lambda: Recurrent(nn.RNN, 0.3), sequences),
        (lambda: Recurrent(nn.LSTM), sequences),
        (lambda: stack(*[8] * 14, 4, act=nn.Sigmoid), None),
        (lambda: Called(functional.relu, -10.0), None),
    ],
    ids=["rnn", "lstm", "sigmoids", "dead"],
)
def test_the_weights_are_the_same_to_the_bit_with_and_without(kit, net, batch):
    weights = []
    for callbacks in ([], None):
        torch.manual_seed(0)
        made = net()
        events = fit(kit, made, 40, callbacks=callbacks, batch=batch, optimizer=adam)
        weights.append(torch.cat([p.detach().reshape(-1) for p in made.parameters()]))
    assert torch.equal(*weights)
    assert isinstance(events, list)


@pytest.mark.parametrize("probe", [ForwardProbe, TimeProbe])
def test_what_goes_wrong_while_looking_is_told_once_and_ends_nothing(kit, said, monkeypatch, probe):
    monkeypatch.setattr(probe, "attach", lambda self: 1 / 0)
    detectors = [VanishingDetector(window=WINDOW), ExplosionDetector(max_norm=1e-6)]
    events = fit(kit, Recurrent(nn.RNN), 30, callbacks=detectors, batch=sequences)
    assert said().count("looking into the layers failed") == 1
    assert "ZeroDivisionError: division by zero" in said()
    assert max(e.step for e in events) == 29  # the run went on to its end
    assert len([e for e in events if e.message.startswith("diagnosed from 3 batches")]) == 1


@pytest.mark.parametrize("how", ["exception", "stop", "abort"])
def test_nothing_is_left_behind_however_the_run_ends(kit, how):
    class Bad(kit.pl.Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            if how == "exception" and trainer.global_step == 2:
                assert hooks(pl_module)
                raise KeyError

    action = "warn" if how == "exception" else how
    first = ExplosionDetector(max_norm=1e-6, name="looks")
    ends = VanishingDetector(min_norm=1e6, patience=3, action="warn" if how == "exception" else action)
    module = kit.net()
    if how == "stop":
        kit.fit(module, [first, ends, Bad()], 20)
    else:
        with pytest.raises((KeyError, ends.error)):
            kit.fit(module, [first, ends, Bad()], 20)
    assert hooks(module) == 0
    assert torch.overrides._get_current_function_mode() is None


def test_the_batch_is_let_go_at_its_end(kit):
    held = []

    class Peek(kit.pl.Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            held.append(Session.of(trainer).diagnosis._batch is not None)

        def on_validation_start(self, trainer, pl_module):
            held.append(Session.of(trainer).diagnosis._batch is not None)

    class Validated(kit.Lever):
        def validation_step(self, batch, batch_idx):
            pass

    trainer = kit.trainer([ExplosionDetector(), Peek()], 2, num_sanity_val_steps=0, max_epochs=1)
    trainer.fit(Validated(), kit.column([1.0, 1.0]), kit.column([1.0]))
    assert held == [True, True, False]


def test_each_of_two_optimizers_gets_its_own_result(kit):
    class Two(kit.pl.LightningModule):
        automatic_optimization = False

        def __init__(self):
            super().__init__()
            self.dead, self.deep = Called(functional.relu, -10.0), stack(*[8] * 14, 4, act=nn.Sigmoid)

        def training_step(self, batch, batch_idx):
            for optimizer, net in zip(self.optimizers(), (self.dead, self.deep), strict=True):
                optimizer.zero_grad()
                self.manual_backward(functional.cross_entropy(net(batch[0]), batch[1]))
                optimizer.step()

        def configure_optimizers(self):
            return sgd(self.dead.parameters()), sgd(self.deep.parameters())

    _, loader = classifier(kit, nn.Linear(8, 4))
    detector = VanishingDetector(window=WINDOW, dead_steps=10)
    kit.fit(Two(), [detector], 80, loader)
    told = {(e.optimizer, e.kind.value): e for e in detector.events if e.message.startswith("diagnosed")}
    assert told[0, "dead"].cause == "100 % of the ReLUs silent after dead.first"
    assert told[1, "vanishing"].cause.startswith("sigmoid derivatives of at most 1/4, multiplied over 13 layers")
    assert {optimizer for optimizer, kind in told if kind == "dead"} == {0}


def test_the_result_reaches_listeners_and_checkpointed_events(kit):
    heard = []

    class Listener(kit.pl.Callback):
        def on_gradient_event(self, trainer, pl_module, event):
            heard.append(event)

    detector = VanishingDetector(window=WINDOW, dead_steps=10)
    fit(kit, Called(functional.relu, -10.0), 20, callbacks=[detector, Listener()])
    assert result(heard, "dead") in detector.events


def test_a_compiled_module_is_left_alone(kit, said):
    net = Called(functional.relu, -10.0)
    net._compiled_call_impl = None
    module, loader = classifier(kit, net)
    module.net.first._compiled_call_impl = lambda x: nn.Linear.forward(module.net.first, x)  # as `Module.compile` does
    count, detector = counter(kit), VanishingDetector(window=WINDOW, dead_steps=10)
    kit.fit(module, [detector, count], 20, loader)
    assert not any(count.hooks)
    assert said().count("the module is compiled, so its layers are not looked into") == 1
