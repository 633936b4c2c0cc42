"""Augmentation: labels' pictures stay themselves, each picture moves by itself, and a step's draws are always the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer.augment import augment, step_draws
from fer.config import AugmentConfig


@pytest.fixture
def images() -> torch.Tensor:
    """(200, 48, 48) uint8, no two columns or rows alike."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (200, 48, 48), dtype=np.uint8))


def test_without_settings_the_pictures_stay_as_they_are(images):
    assert augment(images, AugmentConfig(), step_draws(0, 0, 0)) is images


@pytest.mark.parametrize(
    "config", [AugmentConfig(flip=True), AugmentConfig(shift=4), AugmentConfig(flip=True, shift=4)]
)
def test_shape_type_and_order_stay_and_the_input_is_not_changed(images, config):
    before = images.clone()
    changed = augment(images, config, step_draws(0, 0, 0))
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert not torch.equal(changed, images)


def test_about_half_of_the_pictures_are_mirrored_and_the_others_untouched(images):
    changed = augment(images, AugmentConfig(flip=True), step_draws(0, 0, 0))
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(changed, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 70 <= sum(mirrored) <= 130


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The picture moved, its edge repeated, worked out by numpy."""
    padded = np.pad(image.numpy(), 8, mode="edge")
    return torch.from_numpy(padded[8 - down : 56 - down, 8 - right : 56 - right].copy())


def test_each_picture_moves_by_its_own_whole_number_of_pixels_with_its_edge_repeated(images):
    changed = augment(images, AugmentConfig(shift=2), step_draws(0, 0, 0))
    ways = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    found = [
        next((way for way in ways if torch.equal(a, moved(b, *way))), None)
        for a, b in zip(changed, images, strict=True)
    ]
    assert None not in found
    assert set(found) == set(ways)


def test_a_steps_draws_are_the_same_each_time_and_others_in_each_step_epoch_and_seed(images):
    config = AugmentConfig(flip=True, shift=3)
    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2**31 - 1, 9_999, 10**6)]
    results = [augment(images, config, step_draws(*place)) for place in places]
    again = [augment(images, config, step_draws(*place)) for place in places]
    assert all(torch.equal(a, b) for a, b in zip(results, again, strict=True))
    assert all(not torch.equal(a, b) for i, a in enumerate(results) for b in results[:i])
