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
    difference,
    difference_heatmap,
    reliability_diagram,
    scale_colour,
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
    texts = {(a.x, a.y): a.text for a in figure.layout.annotations}
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
    figure = confusion_heatmap(np.eye(20, dtype=int), [str(i) for i in range(20)], dark=False)
    assert not figure.layout.annotations and len(figure.data[1].hovertext) == 400


def test_each_cell_can_be_clicked_and_is_outlined_when_it_is_chosen() -> None:
    markers = confusion_heatmap(MATRIX, CLASSES, dark=False).data[1]
    assert markers.mode == "markers" and markers.marker.opacity == 0 and markers.selected.marker.opacity == 1
    assert list(zip(markers.y, markers.x, strict=True)) == [(i, j) for i in range(3) for j in range(3)]


def test_the_difference_is_in_counts_where_the_classes_have_as_many_pictures() -> None:
    other = np.array([[7, 3, 0], [0, 0, 0], [40, 0, 60]])
    values, in_counts = difference(MATRIX, other)
    assert in_counts and values.tolist() == [[1, -1, 0], [0, 0, 0], [-10, 10, 0]]
    figure = difference_heatmap(MATRIX, other, CLASSES, names=("<mine>", "theirs"), dark=False)
    texts = [a.text for a in figure.layout.annotations]
    assert texts == ["+1", "-1", "0", "0", "0", "0", "-10", "+10", "0"]
    assert "30 by &lt;mine&gt;<br>40 by theirs" in figure.data[1].hovertext[6]
    assert figure.data[0].zmin == -figure.data[0].zmax == -10


def test_the_difference_is_in_shares_where_the_numbers_of_pictures_differ() -> None:
    values, in_counts = difference(MATRIX, MATRIX * [[1], [1], [2]])
    assert not in_counts and np.abs(values).max() == 0
    figure = difference_heatmap(MATRIX, MATRIX * [[1], [1], [2]], CLASSES, names=("a", "b"), dark=True)
    assert {a.text for a in figure.layout.annotations} == {"0"}


@pytest.mark.parametrize("dark", [False, True])
def test_more_and_less_can_be_read_and_told_apart(dark: bool) -> None:
    from fer.plots import evaluation

    scale = evaluation._DARK_DIVERGING if dark else evaluation._LIGHT_DIVERGING
    cells = [scale_colour(scale, share) for share in np.linspace(0, 1, 101)]
    assert min(contrast(text_on(cell), cell) for cell in cells) >= 4.5
    assert cells[0] != cells[-1] and cells[50] == scale[2]


def test_a_reliability_diagram_has_a_marker_for_each_bin_the_larger_the_more_pictures() -> None:
    bins = [
        {"low": 0.4, "high": 0.5, "n": 25, "confidence": 0.45, "accuracy": 0.5},
        {"low": 0.9, "high": 1.0, "n": 100, "confidence": 0.97, "accuracy": 0.8},
    ]
    _diagonal, before, after = reliability_diagram(bins, bins[:1], dark=False).data
    assert list(before.x) == [45, 97] and list(before.y) == [50, 80] and len(after.x) == 1
    assert list(before.marker.size) == [12, 24]
    assert reliability_diagram([], [], dark=True).data[1].x == ()


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
