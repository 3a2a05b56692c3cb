# SPDX-License-Identifier: Apache-2.0
"""Convolutions and patches, on handwritten digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from typing_extensions import override

from benchmarks.zoo import data
from benchmarks.zoo.core import Batch, Task
from benchmarks.zoo.families.tables import CLASSES, NUMBERS, entropy, squares
from benchmarks.zoo.family import family


class Block(nn.Module):
    """Two convolutions and a short cut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.short = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        return relu(hidden + self.short(x))


@family("tuning", sgd=0.2, adam=3e-3)
def resnet() -> Task:
    """Three residual blocks with batch normalisation."""
    stem = [nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    net = nn.Sequential(
        *stem, Block(8, 8), Block(8, 16, 2), Block(16, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )
    return Task(net, *data.images(), entropy, tags=CLASSES | {"relu", "norm", "residual", "pixels"})


@family("left out", sgd=0.1, adam=3e-3)
def norm_cnn() -> Task:
    """Convolution, batch normalisation, ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 10))
    return Task(net, *data.images(), entropy, tags=CLASSES | {"relu", "norm", "pixels"})


@family("left out", sgd=0.1, adam=3e-3)
def plain_cnn() -> Task:
    """Four convolutions without normalisation, and a perceptron."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 8), (8, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10))
    return Task(net, *data.images(), entropy, tags=CLASSES | {"relu", "pixels"})


class UNet(nn.Module):
    """Two floors down and up, with bridges and group normalisation (Ronneberger et al., 2015)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.enter, self.down = self.part(1, width), self.part(width, 2 * width)
        self.bottom = self.part(2 * width, 2 * width)
        self.up, self.leave = self.part(4 * width, width), self.part(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    @staticmethod
    def part(inputs: int, outputs: int) -> nn.Sequential:
        """One convolution with all that belongs to it."""
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.SiLU())

    @override
    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        second = self.down(self.pool(first))
        deep = self.grow(self.bottom(self.pool(second)))
        hidden = self.leave(torch.cat([self.grow(self.up(torch.cat([deep, second], 1))), first], 1))
        out: Tensor = self.head(hidden)
        return out


@family("left out", sgd=0.2, adam=3e-3)
def unet() -> Task:
    """Removes noise from pictures."""
    train, check = ([noisy(batch) for batch in part] for part in data.images(size=16))
    return Task(UNet(), train, check, squares, tags=NUMBERS | {"norm", "pixels"})


def noisy(batch: Batch) -> Batch:
    """A picture with noise, and without."""
    return batch[0] + 0.7 * torch.randn_like(batch[0]), batch[0]


class Patches(nn.Module):
    """A vision transformer over patches of 2 x 2 (Dosovitskiy et al., 2021)."""

    def __init__(self, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, 2)
        self.place = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    @override
    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.head(self.norm(tokens[:, 0]))
        return out


@family("tuning", sgd=0.2, adam=2e-3)
def vit() -> Task:
    """A vision transformer."""
    return Task(Patches(), *data.images(), entropy, tags=CLASSES | {"attention", "norm", "residual", "pixels"})
