"""Augmentation of whole batches on their device: labels, range and type stay, and each picture has its own random numbers.

The random numbers of a step follow from seed, epoch and step alone, so an interrupted run goes on with those it would
have had. They are drawn on the CPU, so that every device sees the same.
"""

from __future__ import annotations

import torch

from fer.config import AugmentConfig


def step_draws(seed: int, epoch: int, step: int) -> torch.Generator:
    """The source of random numbers of one step; epoch, step: from 0."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + epoch) * 1_000_003 + step) % 2**63)


def augment(images: torch.Tensor, config: AugmentConfig, draws: torch.Generator) -> torch.Tensor:
    """(N, H, W) uint8 to (N, H, W) uint8: mirrored and moved as the settings say; edges are repeated outwards."""
    if not (config.flip or config.shift):
        return images
    n, height, width = images.shape
    rows, columns = torch.arange(height).expand(n, -1), torch.arange(width).expand(n, -1)  # (N, H), (N, W)
    if config.shift:
        down, right = torch.randint(-config.shift, config.shift + 1, (2, n, 1), generator=draws)
        rows, columns = (rows - down).clamp(0, height - 1), (columns - right).clamp(0, width - 1)
    if config.flip:
        mirrored = torch.rand(n, 1, generator=draws) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    device = images.device
    picture = torch.arange(n, device=device)[:, None, None]
    return images[picture, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
