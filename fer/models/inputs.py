"""From uint8 pictures to what a network takes: scaled, given its channels, normalised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY_MEAN = (0.508,)  # of FER2013's training split
GREY_STD = (0.255,)


@dataclass(frozen=True)
class Preprocess:
    """mean, std: one value a channel, for pixels scaled to 0 to 1. They travel with the weights."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def for_channels(cls, channels: str) -> Preprocess:
        """The study's ImageNet values for 'rgb', FER2013's own for 'grey'."""
        return cls(IMAGENET_MEAN, IMAGENET_STD) if channels == "rgb" else cls(GREY_MEAN, GREY_STD)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 48, 48) uint8, 0 to 255, to (N, C, 48, 48) float32 in channels-last order, on the images' device."""
        mean = torch.tensor(self.mean, device=images.device).view(1, 1, 1, -1)
        std = torch.tensor(self.std, device=images.device).view(1, 1, 1, -1)
        scaled = images.unsqueeze(-1).to(torch.float32) / 255  # (N, 48, 48, 1)
        return ((scaled - mean) / std).permute(0, 3, 1, 2)  # (N, C, 48, 48)


def seen_side(model: nn.Module, side: int = 48) -> int:
    """How many of the `side` first rows and columns of a picture reach the model's answer; the others change nothing.

    A pool leaves over what fills no window: the study's networks make 5x5 pixels into 2x2 and so never look at the last
    4 rows and columns of 48. Computed for sequences of convolutions without padding, pools and ReLU up to a Flatten; of
    any other network all is taken to be seen. Batch norm is such a one, as its means are over all pixels.
    """
    extents: list[tuple[int, int]] = []  # and strides
    for layer in _layers(model):
        match layer:
            case nn.Conv2d(padding=(0, 0), kernel_size=(size, wide), stride=(step, across), dilation=(gap, beside)):
                if (size, step, gap) != (wide, across, beside):
                    return side
                extents.append((gap * (size - 1) + 1, step))
            case nn.MaxPool2d(padding=0, dilation=1, ceil_mode=False, kernel_size=int(size), stride=int(step)):
                extents.append((size, step))
            case nn.ReLU():
                pass
            case nn.Flatten():
                break
            case _:
                return side
    else:
        return side
    left = side
    for extent, step in extents:
        left = (left - extent) // step + 1
    for extent, step in reversed(extents):
        left = (left - 1) * step + extent
    return left


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a sequence, one after the other, also those of a sequence in it."""
    if isinstance(model, nn.Sequential):
        for layer in model:
            yield from _layers(layer)
    else:
        yield model


def to_tensor(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """(N, 48, 48) uint8 array to a tensor on the device."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device)
