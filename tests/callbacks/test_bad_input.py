# SPDX-License-Identifier: Apache-2.0
"""Every constructor argument: out of range, of the wrong type, contradictory. Conflicts with the Trainer."""

import inspect
import math
from typing import Any

import pytest

from lightning_gradwatch import (
    AdaptiveClipper,
    ExplosionDetector,
    GradientNormLogger,
    GradwatchError,
    LRDecay,
    VanishingDetector,
)

NAN, INF = math.nan, math.inf
NUMBER, COUNT, CHOICE = ("1", [1], True), ("1", 2.0, None, True), (3, None, ["warn"])
KINDS, PATTERNS, NAME = ("spike", ["spyke"], [3]), (3, [1], "", [""]), (3, ["a"])
FLAG = ("yes", 1, None)
SHARED = {"include": PATTERNS, "exclude": PATTERNS, "name": NAME}
DETECTOR = {"patience": (0, -1, *COUNT), "window": (9, 0, *COUNT), "monitor": NAME, "ignore": KINDS, **SHARED}
TABLE: dict[Any, dict[str, tuple[Any, ...]]] = {
    GradientNormLogger: {
        "every_n_steps": (0, -1, "1", 2.0, True),
        "per_layer": FLAG,
        "max_layers": (0, *COUNT),
        "update_ratio": FLAG,
        "histograms_every_n_steps": (0, "1", 2.0),
        "prog_bar": FLAG,
        **SHARED,
    },
    ExplosionDetector: {
        "action": ("explode", "WARN", *CHOICE),
        "nonfinite": ("clip", "", *CHOICE),
        "max_norm": (0, -1.0, NAN, INF, *NUMBER),
        "max_abs": (0, -1.0, NAN, INF, *NUMBER),
        "max_skips": (-1, *COUNT),
        "warmup_steps": (2, *COUNT),
        "spike_factor": (1, 0.5, -1, NAN, INF, None, *NUMBER),
        "spike_z": (0, -1, NAN, INF, None, *NUMBER),
        "growth_factor": (1, NAN, INF, None, *NUMBER),
        "max_update_ratio": (0, -1, NAN, INF, None, *NUMBER),
        "dump_dir": (3, ["a"], True),
        "max_dumps": (0, -1, *COUNT),
        "rules": ("spike", 3),
        **DETECTOR,
    },
    VanishingDetector: {
        "action": ("clip", "skip", *CHOICE),
        "min_norm": (0, -1.0, NAN, INF, *NUMBER),
        "depth_ratio": (0, 1, 2.0, NAN, None, *NUMBER),
        "stall_ratio": (0, 1, NAN, None, *NUMBER),
        "dead_steps": (2, *COUNT),
        "rules": ("spike", 3),
        "diagnose": FLAG,
        **DETECTOR,
    },
    AdaptiveClipper: {
        "law": ("nope", "Norm", 1.0, None),
        "per": ("layer", *CHOICE),
        "max_skips": (-1, *COUNT),
        "max_update_ratio": (0, -1, NAN, INF, *NUMBER),
        **SHARED,
    },
    LRDecay: {
        "gamma": (0, -1, 1.5, NAN, *NUMBER),
        "every": ("fortnight", 0, -1, 2.0, None, True),
        "on": KINDS,
        "backoff": (0, 1, NAN, None, *NUMBER),
        "cooldown_steps": (-1, *COUNT),
        "hold_steps": (-1, *COUNT),
        "rewarm_steps": (-1, *COUNT),
        "min_scale": (0, 1.5, NAN, None, *NUMBER),
        "patience": (0, *COUNT),
        "max_update_ratio": (0, -1, NAN, INF, *NUMBER),
        "name": NAME,
    },
}
CASES = [(cls, name, value) for cls, table in TABLE.items() for name, values in table.items() for value in values]


@pytest.mark.parametrize(("cls", "name", "value"), CASES, ids=lambda v: v.__name__ if inspect.isclass(v) else repr(v))
def test_a_bad_argument_is_one_clear_sentence(cls, name, value):
    with pytest.raises((ValueError, TypeError)) as caught:
        cls(**{name: value})
    text = str(caught.value)
    assert f"`{name}`" in text
    assert repr(value[0] if isinstance(value, list) and name in ("ignore", "on") else value) in text
    assert text.endswith(".")


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_the_table_has_every_argument(cls):
    assert set(inspect.signature(cls).parameters) == set(TABLE[cls])


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_arguments_are_keywords(cls):
    with pytest.raises(TypeError, match="positional argument"):
        cls("norm", "optimizer") if cls is AdaptiveClipper else cls("warn")


def test_a_decay_with_nothing_to_do_is_refused():
    with pytest.raises(ValueError, match=r"`gamma` must be given where `on` is empty"):
        LRDecay(on=())


def test_a_decay_that_hears_nobody_is_refused_at_setup(kit):
    with pytest.raises(GradwatchError, match=r"LRDecay\(\) has nothing to do.*Add an ExplosionDetector\(\), or give a"):
        kit.fit(kit.net(), [LRDecay()])
    kit.fit(kit.net(), [LRDecay(gamma=0.9)], steps=1)
    kit.fit(kit.net(), [LRDecay(), VanishingDetector()], steps=1)


def test_given_sequences_are_not_kept_by_reference():
    kinds, patterns = ["spike"], ["head.*"]
    detector = ExplosionDetector(ignore=kinds, include=patterns)
    kinds.append("explosion")
    patterns.append("*")
    assert (detector.ignore, detector.include) == (("spike",), ("head.*",))


def test_an_unknown_argument_is_pythons_own_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_nrom'"):
        ExplosionDetector(max_nrom=1.0)
