"""Two families for 48x48 faces, trained from scratch, with width and depth as settings: residual and VGG.

Both end in the mean over all places, so they take pictures of other sizes too: a training step may show a part of each
picture (`augment.crop`), which costs less. All work is done at 24x24 pixels and fewer, where a CPU's caches hold it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from fer.config import ModelConfig
from fer.models.study import dropout, scaled

_STAGES = (64, 128, 256)  # channels at 24x24, 12x12 and 6x6 pixels


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose output is added to the input (He et al., 2016).

    Where the number of channels changes, the input passes a 1x1 convolution. The last batch norm begins at zero, so that
    a fresh block hands its input on (Goyal et al., 2017).
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut = None
        if before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, before, H, W) to (N, after, H, W)."""
        inner = functional.relu(self.norm1(self.conv1(images)), inplace=True)
        inner = self.norm2(self.conv2(inner))
        kept = images if self.shortcut is None else self.shortcut(images)
        return functional.relu(inner + kept, inplace=True)


def residual(config: ModelConfig, in_channels: int, num_classes: int) -> nn.Sequential:
    """`depth` residual blocks with 64, 128 and 256 channels on 24x24, 12x12 and 6x6 pixels; one linear layer."""
    return _family(config, in_channels, num_classes, lambda before, after: [ResidualBlock(before, after)])


def vgg(config: ModelConfig, in_channels: int, num_classes: int) -> nn.Sequential:
    """`depth` 3x3 convolutions with batch norm for each of 64, 128 and 256 channels (Simonyan & Zisserman, 2015); one linear layer."""
    return _family(config, in_channels, num_classes, _conv)


def _family(
    config: ModelConfig, in_channels: int, num_classes: int, unit: Callable[[int, int], list[nn.Module]]
) -> nn.Sequential:
    """A stem, `depth` units at each of the three sizes, and the head. unit: layers from (channels before, channels after)."""
    widths = [scaled(c, config.width) for c in _STAGES]
    before, layers = widths[0], _stem(in_channels, widths[0])
    for stage, after in enumerate(widths):
        layers += [nn.MaxPool2d(2)] if stage else []
        for _ in range(config.depth):
            layers += unit(before, after)
            before = after
    return nn.Sequential(*layers, *_head(config, before, num_classes))


def _stem(in_channels: int, after: int) -> list[nn.Module]:
    """2x2 blocks of pixels as channels, then a convolution: a 6x6 kernel in steps of 2."""
    return [nn.PixelUnshuffle(2), *_conv(4 * in_channels, after)]


def _conv(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def _head(config: ModelConfig, before: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dropout(config), nn.Linear(before, num_classes)]
