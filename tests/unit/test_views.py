"""Test-time views: the ten are what they say, and none changes what it is made of."""

from __future__ import annotations

import numpy as np
import torch

from fer.views import VIEWS, views

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8))


def test_windows_are_the_middle_and_the_corners_each_mirrored_too():
    seen = views(IMAGES, 40)
    assert len(seen) == VIEWS
    assert {tuple(v.shape) for v in seen} == {(3, 40, 40)}
    assert torch.equal(seen[0], IMAGES[:, 4:44, 4:44])
    assert torch.equal(seen[2], IMAGES[:, :40, :40])
    assert torch.equal(seen[8], IMAGES[:, 8:, 8:])
    for plain, mirrored in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(mirrored, plain.flip(-1))


def test_a_crop_that_leaves_nothing_out_is_none():
    seen = views(IMAGES, 48)
    assert len({v.numpy().tobytes() for v in seen}) == VIEWS
    assert all(torch.equal(a, b) for a, b in zip(seen, views(IMAGES), strict=True))


def test_without_a_crop_the_whole_picture_is_moved_and_its_edge_repeated():
    seen = views(IMAGES)
    assert len(seen) == VIEWS
    assert {(tuple(v.shape), v.dtype) for v in seen} == {((3, 48, 48), torch.uint8)}
    assert torch.equal(seen[0], IMAGES)
    assert torch.equal(seen[2][:, 3:, 3:], IMAGES[:, :45, :45])
    assert torch.equal(seen[2][:, 0, 3:], IMAGES[:, 0, :45])
    assert torch.equal(seen[8][:, :45, :45], IMAGES[:, 3:, 3:])
