"""Test-time views: a network is asked about the same face several times, mirrored and moved, and the answers are averaged.

Ten views (Krizhevsky et al., 2012): the middle and the four corners, each as it is and mirrored. A network that was
trained on windows of a picture (`augment.crop`) sees such windows; any other sees the whole picture moved, its edge
repeated, as the training's own shift does it.
"""

from __future__ import annotations

import torch
from torch.nn import functional

VIEWS = 10
_SHIFT = 3  # pixels, where whole pictures are moved


def views(images: torch.Tensor, crop: int | None = None) -> list[torch.Tensor]:
    """The ten views of each of (N, H, W) uint8 images: each (N, crop, crop), or (N, H, W) where crop is None or leaves nothing out."""
    if crop is None or crop >= images.shape[1]:
        padded = functional.pad(images[:, None].float(), (_SHIFT,) * 4, mode="replicate")[:, 0].to(images.dtype)
        side_y, side_x, images = images.shape[1], images.shape[2], padded
    else:
        side_y = side_x = crop
    down, right = images.shape[1] - side_y, images.shape[2] - side_x
    corners = [(down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)]
    windows = [images[:, y : y + side_y, x : x + side_x] for y, x in corners]
    return [view for window in windows for view in (window, window.flip(-1))]
