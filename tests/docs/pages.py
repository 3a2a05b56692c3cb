# SPDX-License-Identifier: Apache-2.0
"""The README and all pages of the documentation, and what their blocks take for granted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_gradwatch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
CALLBACKS = [
    name
    for name in lightning_gradwatch.__all__
    if hasattr(getattr(lightning_gradwatch, name), "on_before_optimizer_step")
]


def blocks(language: str, page: str) -> list[str]:
    """The code of all blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[page], flags=re.MULTILINE | re.DOTALL)


def batches(bad: dict[int, float] | None = None) -> Any:
    """60 batches of 4 rows [6] and targets [1]; whole batches are multiplied by what `bad` says."""
    x = torch.randn(60, 4, 6, generator=torch.Generator().manual_seed(7))
    for i, factor in (bad or {}).items():
        x[i] *= factor
    return DataLoader(TensorDataset(x.flatten(0, 1), x.sum(2, keepdim=True).flatten(0, 1)), batch_size=4)


def surroundings(kit: Any, loader: Any) -> dict[str, Any]:
    """What the blocks take for granted."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    return {
        "model": kit.net(),
        "net": net,
        "optimizer": torch.optim.SGD(net.parameters(), lr=0.05),
        "loader": loader,
        "loss_function": nn.functional.mse_loss,
    }
