"""The study's two networks, and two more that change only their convolutions.

All share one plan: three times convolution without padding, ReLU and 2x2 max-pool, 48 -> 22 -> 9 -> 2 pixels, then
three linear layers. ReLU stands after the pool here: the maximum of rectified values is the rectified maximum, so
outputs and gradients are the same, and ReLU has a quarter of the values to visit.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

_HIDDEN = (256, 128)


def baseline(in_channels: int = 3, num_classes: int = 7) -> nn.Sequential:
    """conv 5x5 to 32, 64, 128 channels; linear 512, 256, 128, 7. 423,751 parameters with three channels."""
    widths = (in_channels, 32, 64, 128)
    return _network([nn.Conv2d(a, b, 5) for a, b in pairwise(widths)], widths[-1], num_classes)


def grouped_conv(in_channels: int = 3, num_classes: int = 7) -> nn.Sequential:
    """The same in 3 groups with 33, 66, 132 channels. 261,029 parameters."""
    widths = (in_channels, 33, 66, 132)
    convs = [nn.Conv2d(a, b, 5, groups=3) for a, b in pairwise(widths)]
    return _network(convs, widths[-1], num_classes)


def depthwise_conv(in_channels: int = 3, num_classes: int = 7) -> nn.Sequential:
    """The second and third convolutions as a 5x5 for each channel and a 1x1 across channels (Howard et al., 2017)."""
    convs: list[nn.Module] = [nn.Conv2d(in_channels, 32, 5)]
    for a, b in ((32, 64), (64, 128)):
        convs.append(nn.Sequential(nn.Conv2d(a, a, 5, groups=a), nn.Conv2d(a, b, 1)))
    return _network(convs, 128, num_classes)


def dilated_conv(in_channels: int = 3, num_classes: int = 7) -> nn.Sequential:
    """3x3 kernels with dilation 2, which span the same 5x5 pixels with 9 weights for 25 (Yu & Koltun, 2016)."""
    widths = (in_channels, 32, 64, 128)
    convs = [nn.Conv2d(a, b, 3, dilation=2) for a, b in pairwise(widths)]
    return _network(convs, widths[-1], num_classes)


def _network(convs: list[nn.Module], channels: int, num_classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for conv in convs:
        layers += [conv, nn.MaxPool2d(2), nn.ReLU(inplace=True)]
    layers.append(nn.Flatten())
    width = channels * 2 * 2
    for hidden in _HIDDEN:
        layers += [nn.Linear(width, hidden), nn.ReLU(inplace=True)]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
