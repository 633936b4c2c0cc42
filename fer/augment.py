"""Augmentation of whole batches on their device: labels, range and type stay, and each picture has its own random numbers.

The random numbers of a step follow from the seed and the step's number alone, so an interrupted run goes on with those it
would have had. They are drawn on the CPU, so that every device sees the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from fer.config import AugmentConfig

_ERASED_AREA = (0.02, 0.2)  # of the picture
_ERASED_ASPECT = (0.3, 3.3)  # height by width


def step_draws(seed: int, step: int) -> torch.Generator:
    """The source of random numbers of one step; step: from 0 over the whole run."""
    return torch.Generator().manual_seed((seed * 1_000_000_007 + step) % 2**63)


def draw_examples(images: torch.Tensor, config: AugmentConfig, seed: int = 0, times: int = 3) -> torch.Tensor:
    """(N, 48, 48) uint8 to (times, N, 48, 48): what training steps would make of them; white around what a crop leaves.

    With mixup each picture is blended with another of the batch, as its step would do it.
    """
    made = []
    for step in range(times):
        draws = step_draws(seed, step)
        changed = augment(images, config, draws)
        if config.mixup:
            share, partner = mixup_draws(len(images), config.mixup, draws)
            changed = _to_uint8(share * changed.float() + (1 - share) * changed[partner].float())
        around = (images.shape[1] - changed.shape[1]) // 2
        made.append(functional.pad(changed, (around,) * 4, value=255))
    return torch.stack(made)


def augment(images: torch.Tensor, config: AugmentConfig, draws: torch.Generator) -> torch.Tensor:
    """(N, H, W) uint8 to (N, H, W) uint8: what the settings say, but for mixup, which needs the labels too.

    First mirrored, moved, turned and scaled with the edges repeated outwards, then brightness and contrast, then erasing.
    """
    if config.rotate or config.scale:
        images = _affine(images, config, draws)
    elif config.flip or config.shift:
        images = _mirror_and_move(images, config, draws)
    if config.crop:
        images = _middle(images, config.crop)
    if config.light:
        images = _relight(images, config.light, draws)
    if config.erase:
        images = _erase(images, config.erase, draws)
    return images


def _middle(images: torch.Tensor, side: int) -> torch.Tensor:
    """(N, H, W) to (N, side, side)."""
    top, left = (images.shape[1] - side) // 2, (images.shape[2] - side) // 2
    return images[:, top : top + side, left : left + side]


def mixup_draws(n: int, alpha: float, draws: torch.Generator) -> tuple[float, torch.Tensor]:
    """A batch's share of the first picture, 0.5 to 1, from Beta(alpha, alpha), and (N,) the partner of each (Zhang et al., 2018)."""
    rng = np.random.default_rng(int(torch.randint(2**31, (), generator=draws)))
    share = float(rng.beta(alpha, alpha))
    return max(share, 1 - share), torch.randperm(n, generator=draws)


def _mirror_and_move(images: torch.Tensor, config: AugmentConfig, draws: torch.Generator) -> torch.Tensor:
    """By whole pixels, which needs no interpolation."""
    n, height, width = images.shape
    rows, columns = torch.arange(height).expand(n, -1), torch.arange(width).expand(n, -1)  # (N, H), (N, W)
    mirrored, down, right = _mirror_and_move_draws(n, config, draws)
    rows, columns = (rows - down).clamp(0, height - 1), (columns - right).clamp(0, width - 1)
    columns = torch.where(mirrored, width - 1 - columns, columns)
    device = images.device
    picture = torch.arange(n, device=device)[:, None, None]
    return images[picture, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]


def _mirror_and_move_draws(
    n: int, config: AugmentConfig, draws: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Whether each picture is mirrored and by how many pixels it moves down and to the right, each (N, 1)."""
    down, right = torch.randint(-config.shift, config.shift + 1, (2, n, 1), generator=draws)
    return (torch.rand(n, 1, generator=draws) < 0.5) & config.flip, down, right


def _affine(images: torch.Tensor, config: AugmentConfig, draws: torch.Generator) -> torch.Tensor:
    n, height, width = images.shape
    mirrored, down, right = _mirror_and_move_draws(n, config, draws)
    angle = math.radians(config.rotate) * _between(-1, 1, n, draws)
    shrink = 1 / (1 + config.scale * _between(-1, 1, n, draws))
    side = torch.where(mirrored[:, 0], -1.0, 1.0)
    cosine, sine = shrink * angle.cos(), shrink * angle.sin()
    across, along = -2 * right[:, 0] / width, -2 * down[:, 0] / height  # a picture is 2 wide and 2 high here
    place = torch.stack(  # from a pixel of the result to the one that it comes from
        (
            torch.stack((side * cosine, -sine * side, side * (cosine * across - sine * along)), 1),
            torch.stack((sine, cosine, sine * across + cosine * along), 1),
        ),
        1,
    )  # (N, 2, 3)
    grid = functional.affine_grid(place.to(images.device, torch.float32), [n, 1, height, width], align_corners=False)
    pixels = images[:, None].to(torch.float32)
    moved = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return _to_uint8(moved[:, 0])


def _relight(images: torch.Tensor, light: float, draws: torch.Generator) -> torch.Tensor:
    n = len(images)
    contrast, brightness = (light * _between(-1, 1, n, draws).to(images.device)[:, None, None] for _ in range(2))
    pixels = images.to(torch.float32)
    mean = pixels.mean((1, 2), keepdim=True)
    return _to_uint8(pixels + contrast * (pixels - mean) + 128 * brightness)


def _erase(images: torch.Tensor, probability: float, draws: torch.Generator) -> torch.Tensor:
    n, height, width = images.shape
    area = _between(*_ERASED_AREA, n, draws) * height * width
    aspect = _between(math.log(_ERASED_ASPECT[0]), math.log(_ERASED_ASPECT[1]), n, draws).exp()
    high = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (torch.rand(n, generator=draws) * (height - high + 1)).floor()
    left = (torch.rand(n, generator=draws) * (width - wide + 1)).floor()
    hit = torch.rand(n, generator=draws) < probability
    noise = torch.randint(0, 256, (n, height, width), generator=draws, dtype=torch.uint8)
    row, column = torch.arange(height), torch.arange(width)
    inside_rows = (row >= top[:, None]) & (row < (top + high)[:, None])  # (N, H)
    inside_columns = (column >= left[:, None]) & (column < (left + wide)[:, None])  # (N, W)
    mask = hit[:, None, None] & inside_rows[:, :, None] & inside_columns[:, None, :]
    return torch.where(mask.to(images.device), noise.to(images.device), images)


def _between(low: float, high: float, n: int, draws: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, generator=draws)


def _to_uint8(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)
