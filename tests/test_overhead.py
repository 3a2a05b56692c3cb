# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the costs runs from end to end, on the smallest of everything."""

import pytest

from benchmarks.overhead import __main__ as report
from benchmarks.overhead import curves, single, steps


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Where the picture goes."""
    cases = (steps.Case("tiny", 2, 8, 2, 3, 1),)
    monkeypatch.setattr(report, "CASES", cases)
    monkeypatch.setattr(single, "CASES", cases)
    monkeypatch.setattr(curves, "TENSORS", (1, 2, 3))
    monkeypatch.setattr(curves, "SIZES", (160, 320))
    for name, value in (("STEPS", 2), ("WARM_UP", 1), ("ROUNDS", 1)):
        monkeypatch.setattr(curves, name, value)
    monkeypatch.setattr(report, "memory_line", lambda: single.memory_line(5))
    monkeypatch.setattr(report, "logged_lines", list)  # 420 steps
    monkeypatch.setattr(report, "start_line", lambda: "")  # five processes
    monkeypatch.setattr(report, "PICTURE", tmp_path / "curves.png")
    return tmp_path / "curves.png"


@pytest.mark.filterwarnings("ignore")
def test_the_report_has_a_row_for_each_variant_and_draws_its_curves(tiny):
    pytest.importorskip("matplotlib", reason="the curves need matplotlib")
    text = "\n".join(report.lines())
    for variant in (steps.BARE, steps.CLIP, steps.OURS, *steps.OTHERS):
        assert f"| {variant.name} |" in text
    assert "| 3 | 192 |" in text
    assert tiny.stat().st_size > 0
