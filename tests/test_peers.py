# SPDX-License-Identifier: Apache-2.0
"""The published clippers that the benchmarks compare with, by the norm that is left of a gradient."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from benchmarks.peers import AutoClip, ZClip
from lightning_gradwatch import AdaptiveClipper, laws


@pytest.fixture
def norms():
    rng = random.Random(0)
    return [0.3 * math.exp(rng.gauss(0, 0.2)) * (100 if i in (40, 60) else 1) for i in range(90)]


def test_zclip_clips_as_our_preset_of_its_rule_does(kit, norms):
    ours = kit.pull(norms, [AdaptiveClipper(laws.ZClip())])
    assert kit.pull(norms, [ZClip()]).norms == pytest.approx(ours.norms, rel=3e-5)


def test_zclip_is_blind_after_one_nan():
    rule = ZClip(max_norm=None)
    for norm in [1.0, 1.1, 0.9] * 20 + [math.nan]:
        rule.limit(norm)
    assert rule.limit(1e6) == 1e6


def test_autoclip_clips_to_the_percentile_of_all_norms_so_far(kit, norms):
    limits = [np.percentile(norms[: i + 1], 10) for i in range(len(norms))]
    assert kit.pull(norms, [AutoClip()]).norms == pytest.approx(np.minimum(norms, limits), rel=1e-5)
