"""From uint8 pictures to what a network takes: scaled, given its channels, normalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

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


def to_tensor(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """(N, 48, 48) uint8 array to a tensor on the device."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device)
