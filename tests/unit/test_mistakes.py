"""Mistakes picture by picture: the surest first, those of all networks, and the pictures found by their hashes."""

from dataclasses import replace

import numpy as np

from fer.data.dataset import picture_hashes
from fer.mistakes import confident_mistakes, in_cell, pictures, wrong_for_all
from fer.verdicts import SavedLogits
from tests.conftest import draw_blobs

LABELS = np.array([0, 1, 2, 0, 1])


def saved(said: list[int], sure: list[float], hashes: list[int] | None = None) -> SavedLogits:
    """Logits whose highest is what was said, higher the surer."""
    logits = np.zeros((len(said), 3))
    logits[np.arange(len(said)), said] = sure
    return SavedLogits(logits, LABELS[: len(said)], np.array(hashes or range(len(said)), dtype=np.uint64))


def test_mistakes_come_with_the_surest_first_and_say_what_the_label_got() -> None:
    found = confident_mistakes(saved([0, 0, 1, 2, 1], [1, 2, 5, 3, 4]))
    assert [(a.place, a.true, a.predicted) for a in found] == [(2, 2, 1), (3, 0, 2), (1, 1, 0)]
    worst = found[0]
    assert np.isclose(worst.confidence, np.exp(5) / (np.exp(5) + 2))
    assert np.isclose(worst.true_probability, 1 / (np.exp(5) + 2))
    assert len(confident_mistakes(saved([0, 0, 1, 2, 1], [1, 2, 5, 3, 4]), most=1)) == 1


def test_probabilities_are_those_at_the_runs_temperature() -> None:
    calibrated = replace(saved([0, 0, 1, 2, 1], [1, 2, 5, 3, 4]), temperature=2.0)
    worst = confident_mistakes(calibrated)[0]
    assert np.isclose(worst.confidence, np.exp(2.5) / (np.exp(2.5) + 2))
    assert np.isclose(worst.true_probability, 1 / (np.exp(2.5) + 2))
    assert in_cell(calibrated, 2, 1) == [worst]


def test_what_all_get_wrong_begins_with_what_is_surest_at_the_first_ones_temperature() -> None:
    logits = np.array([[0.0, 8.0, 6.5], [4.0, 3.0, -9.0]])  # the first loses less to a third class when divided
    labels, hashes = np.array([0, 1]), np.arange(2, dtype=np.uint64)
    plain = SavedLogits(logits, labels, hashes)
    order = [wrong_for_all([replace(plain, temperature=t)]).wrong.tolist() for t in (1.0, 8.0)]
    assert order == [[0, 1], [1, 0]]


def test_a_network_that_is_always_right_has_no_mistakes() -> None:
    right = saved([0, 1, 2, 0, 1], [1, 1, 1, 1, 1])
    assert confident_mistakes(right) == []
    assert wrong_for_all([right]).wrong.size == 0 and wrong_for_all([right]).n == 5


def test_a_cell_holds_its_pictures_only() -> None:
    both = saved([0, 0, 1, 2, 0], [1, 2, 5, 3, 4])
    assert [a.place for a in in_cell(both, 1, 0)] == [4, 1]
    assert [a.place for a in in_cell(both, 0, 0)] == [0]
    assert in_cell(both, 2, 0) == []


def test_what_all_get_wrong_is_matched_by_picture_and_not_by_place() -> None:
    first = saved([1, 0, 1, 2, 1], [1, 2, 5, 3, 4], [10, 11, 12, 13, 14])
    other_labels = LABELS[[3, 2, 1, 0]]
    other = SavedLogits(np.eye(3)[[1, 2, 2, 0]], other_labels, np.array([13, 12, 11, 10], dtype=np.uint64))
    shared = wrong_for_all([first, other])  # the other is wrong about 13 and 11, right about 12 and 10
    assert shared.n == 4
    assert shared.wrong.tolist() == [3, 1]


def test_pictures_are_found_by_hash_in_their_split_only() -> None:
    data = draw_blobs()
    images, _ = data.subset("val")
    hashes = picture_hashes(images)
    found = pictures(data, "val", hashes[[3, 5]])
    assert set(found) == {int(hashes[3]), int(hashes[5])}
    assert np.array_equal(found[int(hashes[5])], images[5])
    assert pictures(data, "train", hashes[:2]) == {} and pictures(data, "test", hashes[:2]) == {}
