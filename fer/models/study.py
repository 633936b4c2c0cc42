"""The study's two networks, and two more that change only their convolutions.

All share one plan: three times convolution without padding, ReLU and 2x2 max-pool, 48 -> 22 -> 9 -> 2 pixels, then
three linear layers. ReLU stands after the pool here: the maximum of rectified values is the rectified maximum, so
outputs and gradients are the same, and ReLU has a quarter of the values to visit. Batch norm, where it is asked for,
stands between the two for the same reason.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from fer.config import ModelConfig

_HIDDEN = (256, 128)


def baseline(config: ModelConfig, in_channels: int, num_classes: int) -> nn.Sequential:
    """conv 5x5 to 32, 64, 128 channels; linear 512, 256, 128, 7. 423,751 parameters with three channels."""
    widths = _widths(config, in_channels)
    return _network(config, [nn.Conv2d(a, b, 5) for a, b in pairwise(widths)], widths, num_classes)


def grouped_conv(config: ModelConfig, in_channels: int, num_classes: int) -> nn.Sequential:
    """The same in 3 groups with 33, 66, 132 channels. 261,029 parameters."""
    widths = (in_channels, *(3 * scaled(c, config.width) for c in (11, 22, 44)))
    convs = [nn.Conv2d(a, b, 5, groups=3) for a, b in pairwise(widths)]
    return _network(config, convs, widths, num_classes)


def depthwise_conv(config: ModelConfig, in_channels: int, num_classes: int) -> nn.Sequential:
    """The second and third convolutions as a 5x5 for each channel and a 1x1 across channels (Howard et al., 2017)."""
    widths = _widths(config, in_channels)
    convs: list[nn.Module] = [nn.Conv2d(in_channels, widths[1], 5)]
    for a, b in pairwise(widths[1:]):
        convs.append(nn.Sequential(nn.Conv2d(a, a, 5, groups=a), nn.Conv2d(a, b, 1)))
    return _network(config, convs, widths, num_classes)


def dilated_conv(config: ModelConfig, in_channels: int, num_classes: int) -> nn.Sequential:
    """3x3 kernels with dilation 2, which span the same 5x5 pixels with 9 weights for 25 (Yu & Koltun, 2016)."""
    widths = _widths(config, in_channels)
    return _network(config, [nn.Conv2d(a, b, 3, dilation=2) for a, b in pairwise(widths)], widths, num_classes)


def scaled(channels: int, width: float) -> int:
    """That many channels times the width, at least 1."""
    return max(1, round(channels * width))


def dropout(config: ModelConfig) -> list[nn.Module]:
    """What stands before each linear layer: a dropout layer, or nothing."""
    return [nn.Dropout(config.dropout)] if config.dropout else []


def _widths(config: ModelConfig, in_channels: int) -> tuple[int, ...]:
    return (in_channels, *(scaled(c, config.width) for c in (32, 64, 128)))


def _network(config: ModelConfig, convs: list[nn.Module], widths: tuple[int, ...], num_classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for conv, channels in zip(convs, widths[1:], strict=True):
        norm = [nn.BatchNorm2d(channels)] if config.batch_norm else []
        layers += [conv, nn.MaxPool2d(2), *norm, nn.ReLU(inplace=True)]
    layers.append(nn.Flatten())
    width = widths[-1] * 2 * 2
    for hidden in _HIDDEN[: config.hidden_layers]:
        after = scaled(hidden, config.width)
        layers += [*dropout(config), nn.Linear(width, after), nn.ReLU(inplace=True)]
        width = after
    return nn.Sequential(*layers, *dropout(config), nn.Linear(width, num_classes))
