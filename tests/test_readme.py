# SPDX-License-Identifier: Apache-2.0
"""The README is true: its code runs, its links and names exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_gradwatch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
FIVE = ("AdaptiveClipper", "ExplosionDetector", "GradientNormLogger", "LRDecay", "VanishingDetector")
RECIPES = [code for code in PYTHON if "measure(" in code]


def batches(bad: dict[int, float] | None = None) -> Any:
    """60 batches of 4 rows [6] and targets [1]; whole batches are multiplied by what `bad` says."""
    x = torch.randn(60, 4, 6, generator=torch.Generator().manual_seed(7))
    for i, factor in (bad or {}).items():
        x[i] *= factor
    data = TensorDataset(x.flatten(0, 1), x.sum(2, keepdim=True).flatten(0, 1))
    return DataLoader(data, batch_size=4)


def surroundings(kit: Any, loader: Any) -> dict[str, Any]:
    """What the blocks take for granted."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    model = kit.net()
    return {
        "model": model,
        "net": net,
        "optimizer": optimizer,
        "loader": loader,
        "loss_function": nn.functional.mse_loss,
    }


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_every_code_block_runs(code, kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, surroundings(kit, batches()))


@pytest.mark.parametrize("code", RECIPES, ids=["torch", "fabric"])
def test_the_loops_without_a_trainer_tell_of_bad_batches_and_keep_them_out(code, kit, capsys):
    place = surroundings(kit, batches({30: 1e6, 40: float("nan")}))
    exec(code, place)
    told = capsys.readouterr().out
    assert "ALARM spike: step 30 " in told
    assert "ALARM nonfinite: step 40 " in told
    assert "_forward_module" not in told
    assert told.count("[gradwatch]") == 2
    net, loss = place["net"], place["loss_function"]
    x, y = batches().dataset.tensors
    assert loss(net(x), y) < 0.5 * y.square().mean()


def test_the_callback_in_the_readme_hears_of_bad_batches(kit):
    place: dict[str, Any] = {}
    exec(next(code for code in PYTHON if "class BadBatches" in code), place)
    listener = place["BadBatches"]()
    kit.pull([1.0, float("nan"), 1.0], [listener, lightning_gradwatch.ExplosionDetector()])
    assert [(epoch, batch) for epoch, batch, _ in listener.found] == [(0, 1)]


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_exists():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    commands = [
        line.split("#")[0].split() for language, code in BLOCKS if language == "bash" for line in code.splitlines()
    ]
    assert {words[0] for words in commands} == {"make", "pip", "GRADWATCH=1"}
    assert {words[1] for words in commands if words[0] == "make"} <= set(targets)


def test_every_argument_in_the_table_of_callbacks_exists():
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", README, flags=re.MULTILINE)
    usually = {name: re.findall(r"`(\w+)`", usual) for name, usual in rows if name in FIVE}
    assert sorted(usually) == sorted(FIVE)
    for name, usual in usually.items():
        assert len(usual) == 3
        assert set(usual) <= set(inspect.signature(getattr(lightning_gradwatch, name)).parameters)


def test_every_tag_is_listed_and_every_listed_tag_is_logged(kit):
    table = README[README.index("## What is logged") :].split("\n\n")[1]
    listed = re.findall(r"`(grad_[^`]+|weight_[^`]+)`", table)
    patterns = {tag: re.sub(r"<\w+>", r"[\\w.]+", tag) for tag in listed}
    memory = kit.Memory()
    callbacks = [getattr(lightning_gradwatch, name)() for name in FIVE]
    kit.fit(kit.net(), callbacks, steps=-1, loader=batches({30: float("nan")}), logger=memory, max_epochs=1)
    logged = [tag for tag in memory.points if tag.startswith(("grad_", "weight_"))]
    assert [tag for tag in logged if not any(re.fullmatch(p, tag) for p in patterns.values())] == []
    assert [tag for tag, p in patterns.items() if not any(re.fullmatch(p, tag) for tag in logged)] == []
