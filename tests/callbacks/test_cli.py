# SPDX-License-Identifier: Apache-2.0
"""`LightningCLI`: from YAML, from the command line, and with `--help`."""

import contextlib
import io
import sys

import pytest
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.cli import LightningCLI

import lightning_gradwatch

EXPORTED = [getattr(lightning_gradwatch, name) for name in lightning_gradwatch.__all__]
CALLBACKS = [cls for cls in EXPORTED if isinstance(cls, type) and issubclass(cls, Callback)]
each_callback = pytest.mark.parametrize("cls", CALLBACKS, ids=lambda cls: cls.__name__)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # Lightning 2.6.6 calls what jsonargparse 4.53 drops
YAML = """
trainer:
  accelerator: cpu
  logger: false
  callbacks:
    - class_path: lightning_gradwatch.GradientNormLogger
      init_args: {every_n_steps: 10, max_layers: 8, include: "net.*"}
    - class_path: lightning_gradwatch.ExplosionDetector
      init_args: {action: clip, nonfinite: stop, max_norm: 5, ignore: [level_shift], exclude: [head.*]}
    - class_path: lightning_gradwatch.VanishingDetector
      init_args: {min_norm: 1.0e-8, patience: 100}
    - class_path: lightning_gradwatch.AdaptiveClipper
      init_args:
        law:
          class_path: lightning_gradwatch.PercentileClip
          init_args: {percentile: 90, window: 100}
        per: group
    - class_path: lightning_gradwatch.AdaptiveClipper
      init_args: {law: norm, name: second}
    - class_path: lightning_gradwatch.LRDecay
      init_args: {gamma: 0.98, every: 100, "on": [spike]} # YAML takes a bare on for true
"""


class Empty(LightningModule):
    """Has nothing to configure."""


@pytest.fixture
def cli(monkeypatch):
    def run(*args):
        monkeypatch.setattr(sys, "argv", ["train.py", *args])
        return LightningCLI(Empty, run=False, save_config_callback=None, seed_everything_default=False)

    return run


def ours(parsed):
    return [callback for callback in parsed.trainer.callbacks if isinstance(callback, tuple(CALLBACKS))]


def test_from_yaml(cli, tmp_path):
    (tmp_path / "config.yaml").write_text(YAML)
    logger, explosion, vanishing, law, named, decay = ours(cli("--config", str(tmp_path / "config.yaml")))
    assert (logger.every_n_steps, logger.max_layers, logger.include) == (10, 8, ("net.*",))
    assert (explosion.action, explosion.nonfinite, explosion.ignore) == ("clip", "stop", ("level_shift",))
    assert explosion.exclude == ("head.*",)
    assert vanishing.action == "warn"
    assert (repr(law.law), law.per) == ("PercentileClip(percentile=90.0, window=100)", "group")
    assert (repr(named.law), named.name) == ("NormClip(max_norm=1.0)", "second")
    assert (decay.gamma, decay.every, decay.on) == (0.98, 100, ("spike",))


@each_callback
def test_from_the_command_line_with_defaults(cli, cls):
    (callback,) = ours(
        cli("--trainer.accelerator=cpu", "--trainer.logger=false", f"--trainer.callbacks+={cls.__name__}")
    )
    assert type(callback) is cls
    assert repr(callback.state_dict()) == repr(cls().state_dict())


@each_callback
def test_help_shows_every_argument_with_its_meaning(cli, cls):
    out = io.StringIO()
    with pytest.raises(SystemExit) as caught, contextlib.redirect_stdout(out):
        cli(f"--trainer.callbacks.help={cls.__name__}")
    assert not caught.value.code
    assert "Tells several instances apart" in out.getvalue()


@pytest.mark.parametrize(
    "wrong", ["--trainer.callbacks.action=explode", "--trainer.callbacks.window=x", "--trainer.callbacks.patience=0"]
)
def test_a_wrong_value_is_refused(cli, wrong, capsys):
    with pytest.raises((SystemExit, ValueError)):
        cli("--trainer.accelerator=cpu", "--trainer.callbacks+=ExplosionDetector", wrong)
    error = capsys.readouterr().err
    assert "Traceback" not in error
