"""Figures of one evaluation: shares, cells that can be read, confusions in order."""

import numpy as np
import pytest

from fer.plots.evaluation import (
    VIEWS,
    Confusion,
    biggest_confusions,
    cell_colour,
    confusion_heatmap,
    contrast,
    shares,
    text_on,
)

CLASSES = ("a", "b", "c")
MATRIX = np.array([[8, 2, 0], [0, 0, 0], [30, 10, 60]])


def test_rows_and_columns_of_the_shares_sum_to_one_and_empty_ones_are_zero() -> None:
    np.testing.assert_allclose(shares(MATRIX, "By row").sum(axis=1), [1, 0, 1])
    np.testing.assert_allclose(shares(MATRIX, "By column").sum(axis=0), [1, 1, 1])
    np.testing.assert_array_equal(shares(MATRIX, "Counts"), MATRIX)
    np.testing.assert_allclose(shares(np.zeros((2, 2)), "By column"), 0)


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(ValueError, match="sideways"):
        shares(MATRIX, "sideways")


def test_the_true_class_runs_down_and_each_cell_has_its_number() -> None:
    figure = confusion_heatmap(MATRIX, CLASSES, view="By row", dark=False)
    heat, numbers = figure.data
    assert heat.z[2][0] == pytest.approx(0.3)
    texts = {(x, y): text for x, y, text in zip(numbers.x, numbers.y, numbers.text, strict=True)}
    assert texts[0, 2] == "30\u00a0%" and texts[2, 0] == "0\u00a0%"
    assert figure.layout.yaxis.title.text == "True class"
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1], "the first class stands on top"
    assert "30 pictures of c were called a" in numbers.hovertext[6] and "30.0 % of all c" in numbers.hovertext[6]


def test_counts_have_thousands_separators() -> None:
    texts = confusion_heatmap(np.array([[1234, 0], [1, 2]]), ("a", "b"), dark=True).data[1].text
    assert texts == ("1,234", "0", "1", "2")


@pytest.mark.parametrize("view", VIEWS)
def test_a_matrix_without_pictures_is_drawn(view: str) -> None:
    assert confusion_heatmap(np.zeros((3, 3), dtype=int), CLASSES, view=view, dark=False).data[0].zmax == 1


def test_many_classes_keep_their_numbers_for_hovering() -> None:
    numbers = confusion_heatmap(np.eye(20, dtype=int), [str(i) for i in range(20)], dark=False).data[1]
    assert numbers.mode == "markers" and len(numbers.hovertext) == 400


@pytest.mark.parametrize("dark", [False, True])
def test_every_number_can_be_read_on_its_cell(dark: bool) -> None:
    cells = [cell_colour(share, dark=dark) for share in np.linspace(0, 1, 101)]
    assert min(contrast(text_on(cell), cell) for cell in cells) >= 4.5  # WCAG 2.1, level AA


@pytest.mark.parametrize("dark", [False, True])
def test_lightness_alone_orders_the_cells(dark: bool) -> None:
    to_white = [contrast(cell_colour(share, dark=dark), "#ffffff") for share in np.linspace(0, 1, 21)]
    assert to_white == sorted(to_white, reverse=dark)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_confusions_come_by_their_share_of_the_class() -> None:
    assert biggest_confusions(MATRIX, CLASSES) == [Confusion("c", "a", 30, 100), Confusion("a", "b", 2, 10)]
    assert biggest_confusions(MATRIX, CLASSES, most=1) == [Confusion("c", "a", 30, 100)]
    assert biggest_confusions(np.diag([5, 6]), ("a", "b")) == []
    assert MATRIX[0, 0] == 8, "the matrix is not changed"
