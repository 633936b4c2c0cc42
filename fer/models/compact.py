"""A small network for short trainings: what costs time is done on small maps, and batch norm lets it learn at high rates.

Each 2x2 block of pixels becomes four channels at once, so the first convolution already works on 24x24 pixels. Every
pool stands before its batch norm and ReLU, which then have a quarter of the values to visit.
"""

from __future__ import annotations

import torch
from torch import nn

from fer.config import ModelConfig
from fer.models.study import dropout, scaled


class Residual(nn.Sequential):
    """Its layers' output plus their input (He et al., 2016)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + super().forward(images)


def compact(config: ModelConfig, in_channels: int, num_classes: int) -> nn.Sequential:
    """3x3 convolutions to 32, 128, 128 and 128 channels on 24, 12, 6 and 6 pixels; one linear layer."""
    few, many = scaled(32, config.width), scaled(128, config.width)
    return nn.Sequential(
        nn.PixelUnshuffle(2),  # (N, 4 C, 24, 24)
        *_block(4 * in_channels, few, pool=True),  # (N, 32, 12, 12)
        *_block(few, many, pool=True),  # (N, 128, 6, 6)
        Residual(*_block(many, many)),
        *_block(many, many, pool=True),  # (N, 128, 3, 3)
        nn.Flatten(),
        *dropout(config),
        nn.Linear(many * 9, num_classes),
    )


def _block(before: int, after: int, *, pool: bool = False) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, 3, padding=1, bias=False)  # the batch norm has a bias
    return [conv, *([nn.MaxPool2d(2)] if pool else []), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
