"""The drawn sample faces: what is in them, that they come out the same every time, that labels can be learned."""

from __future__ import annotations

import time

import numpy as np
import pytest

from fer.data import dataset
from fer.data.dataset import CLASSES, SPLITS, Dataset
from fer.data.sample import (
    ACTION_UNITS,
    CLASS_SHARES,
    EXPRESSIONS,
    SPLIT_SIZES,
    VARIANTS,
    VERSION,
    action_units,
    draw_face,
    draw_sample,
)
from fer.errors import DataError


@pytest.fixture(scope="module")
def drawn() -> tuple[Dataset, float]:
    start = time.process_time()
    return draw_sample(), time.process_time() - start


@pytest.fixture(scope="module")
def sample(drawn: tuple[Dataset, float]) -> Dataset:
    return drawn[0]


def test_drawing_takes_seconds(drawn):
    assert drawn[1] < 30


def test_arrays_have_the_shapes_and_types_of_a_data_set(sample):
    assert (sample.images.shape, sample.images.dtype) == ((3500, 48, 48), np.uint8)
    assert (sample.labels.shape, sample.labels.dtype) == ((3500,), np.int64)
    assert (sample.splits.shape, sample.splits.dtype) == ((3500,), np.uint8)
    assert sample.name == "sample"
    assert sample.classes == CLASSES
    assert sample.synthetic


def test_splits_have_their_sizes_and_every_class(sample):
    counts = sample.counts()
    assert {split: sum(by_class.values()) for split, by_class in counts.items()} == SPLIT_SIZES
    assert SPLIT_SIZES == {"train": 2100, "val": 700, "test": 700}
    for by_class in counts.values():
        assert min(by_class, key=by_class.get) == "disgust"
        assert min(by_class.values()) >= 40


def test_sources_name_split_label_and_position_once(sample):
    assert len(set(sample.sources)) == 3500
    for i in (0, 2099, 2100, 3499):
        assert sample.sources[i] == f"{SPLITS[sample.splits[i]]}/{CLASSES[sample.labels[i]]}/{i:06d}"


def test_the_specification_counts_every_picture(sample):
    assert sample.meta["version"] == VERSION
    assert sample.meta["origin"] == "drawn by FER Lab"
    assert sample.meta["spec"] == {
        "dimensions": {"48 x 48": 3500},
        "resolution": {"not stated": 3500},
        "bit_depth": {"8-bit grey": 3500},
        "format": {"drawn": 3500},
    }


def test_every_split_has_four_to_five_per_cent_wrong_labels(sample):
    wrong = np.array(sample.meta["wrong_labels"])
    for k, split in enumerate(SPLITS):
        share = (sample.splits[wrong] == k).sum() / SPLIT_SIZES[split]
        assert 0.04 <= share <= 0.05


def test_what_is_drawn_has_the_stated_shares_and_wrong_labels_are_wrong(sample):
    right = np.delete(np.arange(3500), sample.meta["wrong_labels"])
    for i in right[::500]:
        alone = draw_face(CLASSES[sample.labels[i]], np.random.default_rng((VERSION, i)))
        assert np.array_equal(sample.images[i], alone)
    for i in sample.meta["wrong_labels"][::40]:
        as_labelled = draw_face(CLASSES[sample.labels[i]], np.random.default_rng((VERSION, i)))
        assert not np.array_equal(sample.images[i], as_labelled)
    kept = np.bincount(sample.labels[right], minlength=7) / 3500
    stated = np.array([CLASS_SHARES[name] for name in CLASSES]) / 100
    assert np.all(kept <= stated)
    assert np.all(kept > stated - 0.02)


def test_pictures_differ_and_are_neither_black_nor_white(sample):
    assert len({image.tobytes() for image in sample.images}) == 3500
    assert 85 < sample.images.mean() < 150
    assert sample.images.std(axis=(1, 2)).min() > 8
    assert ((sample.images == 0) | (sample.images == 255)).mean() < 0.08


def test_the_mean_face_of_train_beats_chance_on_val(sample):
    def scaled(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1).astype(np.float64)
        return (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)

    (train, y), (val, truth) = sample.subset("train"), sample.subset("val")
    means = np.stack([scaled(train)[y == k].mean(axis=0) for k in range(7)])
    distance = ((scaled(val)[:, None] - means[None]) ** 2).sum(axis=2)
    assert (distance.argmin(axis=1) == truth).mean() > 0.25  # always saying happy: 0.19


def test_first_use_draws_and_writes_second_use_reads(sample, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_DATA_DIR", str(tmp_path))
    first = dataset.load("sample")
    assert (tmp_path / "sample.npz").is_file()
    assert first.fingerprint == sample.fingerprint  # a second drawing gives the same pictures and labels
    monkeypatch.setattr("fer.data.sample.draw_sample", lambda: pytest.fail("drawn again"))
    second = dataset.load("sample")
    assert second.fingerprint == sample.fingerprint
    assert dataset.fingerprint(second) == sample.fingerprint
    assert second.meta == sample.meta


@pytest.mark.parametrize("expression", CLASSES)
def test_a_face_depends_on_its_generator_alone(expression):
    first, again, other = (draw_face(expression, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (first.shape, first.dtype) == ((48, 48), np.uint8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_intensity_changes_the_face_and_not_the_corners():
    calm, strong = (draw_face("surprise", np.random.default_rng(3), intensity).astype(int) for intensity in (0.0, 1.0))
    change = np.abs(calm - strong)
    assert change[:4, :4].max() == 0
    assert change[10:44, 10:38].mean() > 4


def test_action_units_follow_the_table_in_strength():
    def mean_strength(expression: str, unit: str, intensity: float) -> float:
        return float(np.mean([action_units(expression, intensity, np.random.default_rng(k))[unit] for k in range(200)]))

    assert mean_strength("happy", "AU12", 1.0) == pytest.approx(1.05, abs=0.05)
    assert mean_strength("happy", "AU12", 0.5) == pytest.approx(0.55, abs=0.05)
    assert mean_strength("neutral", "AU12", 1.0) < 0.1


def test_the_tables_name_every_class_and_only_known_units():
    assert tuple(EXPRESSIONS) == tuple(VARIANTS) == tuple(CLASS_SHARES) == CLASSES
    assert sum(CLASS_SHARES.values()) == 100
    always = {unit for face in EXPRESSIONS.values() for unit in face}
    sometimes = {unit for variants in VARIANTS.values() for unit, *_ in variants}
    assert always | sometimes == set(ACTION_UNITS)


def test_an_unknown_expression_or_intensity_is_refused_with_what_is_allowed():
    with pytest.raises(DataError, match=r"'bored'.*angry, disgust"):
        draw_face("bored", np.random.default_rng(0))
    with pytest.raises(DataError, match=r"1\.5.*from 0 to 1"):
        draw_face("happy", np.random.default_rng(0), intensity=1.5)
