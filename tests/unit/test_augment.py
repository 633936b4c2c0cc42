"""Augmentation: labels' pictures stay themselves, each picture moves by itself, and a step's draws are always the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fer.augment import augment, draw_examples, mixup_draws, step_draws
from fer.config import AugmentConfig


@pytest.fixture
def images() -> torch.Tensor:
    """(200, 48, 48) uint8, no two columns or rows alike."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (200, 48, 48), dtype=np.uint8))


def test_without_settings_the_pictures_stay_as_they_are(images):
    assert augment(images, AugmentConfig(), step_draws(0, 0)) is images


KINDS = {
    "flip": {"flip": True},
    "shift": {"shift": 4},
    "rotate": {"rotate": 10.0},
    "scale": {"scale": 0.2},
    "light": {"light": 0.3},
    "erase": {"erase": 1.0},
}


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_shape_type_and_order_stay_and_the_input_is_not_changed(images, kind):
    config = AugmentConfig(
        **(KINDS[kind] if kind != "all" else {k: v for one in KINDS.values() for k, v in one.items()})
    )
    before = images.clone()
    changed = augment(images, config, step_draws(0, 0))
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert not torch.equal(changed, images)


def test_about_half_of_the_pictures_are_mirrored_and_the_others_untouched(images):
    changed = augment(images, AugmentConfig(flip=True), step_draws(0, 0))
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(changed, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 70 <= sum(mirrored) <= 130


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The picture moved, its edge repeated, worked out by numpy."""
    padded = np.pad(image.numpy(), 8, mode="edge")
    return torch.from_numpy(padded[8 - down : 56 - down, 8 - right : 56 - right].copy())


def test_each_picture_moves_by_its_own_whole_number_of_pixels_with_its_edge_repeated(images):
    changed = augment(images, AugmentConfig(shift=2), step_draws(0, 0))
    ways = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    found = [
        next((way for way in ways if torch.equal(a, moved(b, *way))), None)
        for a, b in zip(changed, images, strict=True)
    ]
    assert None not in found
    assert set(found) == set(ways)


def test_a_steps_draws_are_the_same_each_time_and_others_in_each_step_and_seed(images):
    config = AugmentConfig(flip=True, shift=3)
    places = [(0, 0), (0, 1), (1, 0), (2**31 - 1, 10**9)]
    results = [augment(images, config, step_draws(*place)) for place in places]
    again = [augment(images, config, step_draws(*place)) for place in places]
    assert all(torch.equal(a, b) for a, b in zip(results, again, strict=True))
    assert all(not torch.equal(a, b) for i, a in enumerate(results) for b in results[:i])


@pytest.fixture
def smooth() -> torch.Tensor:
    """(60, 48, 48) uint8 that change slowly, so that interpolation costs little."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    phase = torch.arange(60.0)[:, None, None]
    return (128 + 60 * torch.sin(x / 9 + phase) + 50 * torch.cos(y / 7 + 0.3 * phase)).to(torch.uint8)


def test_turning_and_scaling_also_mirror_and_move_as_whole_pixels_do(smooth):
    """With a turn of next to nothing the result is that of the other way, from the same draws."""
    by_pixels = augment(smooth, AugmentConfig(flip=True, shift=3), step_draws(0, 5))
    by_turning = augment(smooth, AugmentConfig(flip=True, shift=3, rotate=1e-6), step_draws(0, 5))
    assert (by_pixels.int() - by_turning.int()).abs().max() <= 1


def test_a_turned_picture_is_pillows_by_the_same_angle_for_some_angle_within_bounds(smooth):
    turned = augment(smooth, AugmentConfig(rotate=10), step_draws(0, 0))
    angles = np.arange(-10.5, 10.51, 0.5)
    best = []
    for before, after in zip(smooth, turned, strict=True):
        picture = Image.fromarray(before.numpy())
        errors = [
            np.abs(np.asarray(picture.rotate(a, Image.Resampling.BILINEAR)).astype(int) - after.numpy())[
                12:36, 12:36
            ].mean()
            for a in angles
        ]
        assert min(errors) < 2
        best.append(angles[int(np.argmin(errors))])
    assert min(best) < -6
    assert max(best) > 6


def test_scaling_changes_size_both_ways_about_the_middle():
    disc = torch.zeros(100, 48, 48, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(48) - 23.5, torch.arange(48) - 23.5, indexing="ij")
    disc[:, (y**2 + x**2) < 100] = 255
    scaled = augment(disc, AugmentConfig(scale=0.2), step_draws(0, 0)).float()
    ratio = (scaled.sum((1, 2)) / disc.float().sum((1, 2))).sqrt()
    assert ratio.min() == pytest.approx(0.8, abs=0.03)
    assert ratio.max() == pytest.approx(1.2, abs=0.03)
    assert (scaled.flip(-1) - scaled).abs().mean() < 1


def test_light_changes_mean_and_contrast_each_by_itself(smooth):
    lit = augment(smooth, AugmentConfig(light=0.3), step_draws(0, 0)).float()
    brighter = (lit.mean((1, 2)) - smooth.float().mean((1, 2))) / 128
    stronger = lit.std((1, 2)) / smooth.float().std((1, 2)) - 1
    for change in (brighter, stronger):
        assert -0.33 < change.min() < -0.15
        assert 0.15 < change.max() < 0.33
    assert np.corrcoef(brighter, stronger)[0, 1] ** 2 < 0.25


def test_erasing_puts_one_rectangle_of_noise_into_as_many_pictures_as_it_says():
    grey = torch.full((400, 48, 48), 128, dtype=torch.uint8)
    changed = augment(grey, AugmentConfig(erase=0.5), step_draws(0, 0)) != grey
    hit = changed.any(-1).any(-1)
    assert 150 <= int(hit.sum()) <= 250
    for mask in changed[hit]:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert mask.sum() > 0.9 * height * width  # noise is grey 128 once in 256 times
        assert 0.01 * 48**2 < height * width < 0.23 * 48**2


def test_mixups_share_is_the_larger_and_partners_are_all_the_pictures():
    shares = [mixup_draws(8, 0.4, step_draws(0, step))[0] for step in range(300)]
    assert 0.5 <= min(shares) < 0.55
    assert 0.99 < max(shares) <= 1
    assert sorted(mixup_draws(8, 0.4, step_draws(0, 3))[1].tolist()) == list(range(8))


@pytest.mark.parametrize("others", [{}, {"shift": 4}, {"rotate": 10.0, "light": 0.2, "erase": 1.0}], ids=str)
def test_a_crop_is_the_middle_of_each_picture_after_it_was_moved(images, others):
    config = AugmentConfig(crop=40, **others)
    cropped = augment(images, config, step_draws(0, 3))
    assert (cropped.shape, cropped.dtype) == ((200, 40, 40), torch.uint8)
    if not others.get("erase"):
        whole = augment(images, AugmentConfig(**others), step_draws(0, 3))
        assert torch.equal(cropped, whole[:, 4:44, 4:44])


def test_examples_are_what_the_first_steps_of_training_would_make(images):
    config = AugmentConfig(flip=True, shift=3, light=0.2)
    drawn = draw_examples(images[:7], config, seed=5, times=2)
    assert (drawn.shape, drawn.dtype) == ((2, 7, 48, 48), torch.uint8)
    for step in range(2):
        assert torch.equal(drawn[step], augment(images[:7], config, step_draws(5, step)))
    cropped = draw_examples(images[:7], AugmentConfig(crop=40), times=1)[0]
    assert torch.equal(cropped[:, 4:44, 4:44], images[:7, 4:44, 4:44])
    assert (cropped[:, :4] == 255).all()


def test_an_example_of_mixup_is_a_blend_of_two_pictures(images):
    drawn = draw_examples(images[:7], AugmentConfig(mixup=8.0), seed=1, times=1)[0].float()
    draws = step_draws(1, 0)
    share, partner = mixup_draws(7, 8.0, draws)
    expected = share * images[:7].float() + (1 - share) * images[:7][partner].float()
    assert (drawn - expected).abs().max() <= 0.5
    assert (partner != torch.arange(7)).any()
