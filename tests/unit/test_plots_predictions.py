"""An answer as something to see: words, bars, boxes."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fer.data.dataset import CLASSES
from fer.plots.predictions import annotated, bars_alt, board, boxed, enlarged, looks, probability_bars

PROBS = {"angry": 0.1, "happy": 0.8996, "sad": 0.0005}


@pytest.mark.parametrize("label", CLASSES)
def test_the_words_claim_only_what_is_seen(label: str) -> None:
    assert looks(label).startswith("looks ")


def test_a_class_of_another_data_set_is_quoted() -> None:
    assert looks("contempt") == "looks like 'contempt'"


@pytest.mark.parametrize("dark", [False, True])
def test_bars_keep_the_order_of_the_classes_and_stress_the_first(dark: bool) -> None:
    figure = probability_bars(PROBS, dark=dark)
    bars = figure.data[0]
    assert list(bars.y) == ["angry", "happy", "sad"] and bars.x[1] == pytest.approx(89.96)
    assert figure.layout.yaxis.autorange == "reversed", "the first class stands on top"
    assert bars.text[1].startswith("<b>") and not bars.text[0].startswith("<b>")
    assert bars.marker.color[0] == bars.marker.color[2] != bars.marker.color[1]


def test_a_bar_says_less_than_rather_than_zero() -> None:
    assert probability_bars(PROBS, dark=False).data[0].text[2] == "&lt;0.1\u00a0%"


def test_a_class_name_is_not_taken_for_markup() -> None:
    ticks = probability_bars({"<i>x</i>": 0.4, "y": 0.6}, dark=False).layout.yaxis.ticktext
    assert "<i>" not in ticks[0]


def test_the_bars_in_words_begin_with_the_most_probable() -> None:
    assert bars_alt(PROBS) == "Probabilities: happy 90.0\u00a0%, angry 10.0\u00a0%, sad <0.1\u00a0%"


def test_a_box_is_drawn_around_its_face_and_nowhere_else() -> None:
    photo = np.full((300, 400, 3), 128, dtype=np.uint8)
    view = np.asarray(boxed(photo, [(100, 80, 120, 120)])).astype(int)
    changed = np.argwhere(np.abs(view - 128).sum(axis=2) > 30)
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert (abs(left - 100), abs(top - 80), abs(right - 220), abs(bottom - 200)) <= (3, 3, 3, 3)
    assert (view[170:190, 150:210] == 128).all(), "the face itself stays as it is"


def test_a_large_photo_is_scaled_down_with_its_box() -> None:
    photo = np.zeros((2000, 4000), dtype=np.uint8)
    view = boxed(photo, [(2000, 1000, 1000, 800)])
    assert view.size == (1280, 640) and view.mode == "RGB"
    drawn = np.argwhere(np.asarray(view).sum(axis=2) > 300)
    assert abs(drawn[:, 1].min() - 640) <= 3 and abs(drawn[:, 1].max() - 960) <= 8


def test_the_photo_is_not_changed_and_a_whole_face_gets_no_box() -> None:
    photo = np.full((48, 48), 90, dtype=np.uint8)
    assert (np.asarray(boxed(photo, [(0, 0, 48, 48)])) == 90).all()
    boxed(photo, [(5, 5, 20, 20)])
    assert (photo == 90).all()


@pytest.mark.parametrize("scale", [1, 10])
@pytest.mark.parametrize(
    "box", [(0, 0, 3, 3), (390, 290, 10, 10), (0, 0, 400, 299), (10, 10, 1, 1), (10, 10, 2, 1), (17, 13, 1, 30)]
)
def test_boxes_at_the_edge_and_tiny_ones_are_drawn(box: tuple[int, int, int, int], scale: int) -> None:
    photo = np.zeros((300 * scale, 400 * scale, 3), dtype=np.uint8)
    assert np.asarray(boxed(photo, [box])).any()
    assert annotated(photo, [box], [("happy", False)])


def test_a_box_as_large_as_the_photo_and_moved_is_drawn() -> None:
    photo = np.full((300, 300, 3), 100, np.uint8)
    assert (np.asarray(boxed(photo, [(100, 0, 300, 300)])) != 100).any()
    moved, whole = (annotated(photo, [box], [("happy", False)]) for box in ((100, 0, 300, 300), (0, 0, 300, 300)))
    assert (np.asarray(Image.open(io.BytesIO(moved))) != 100).any()
    assert (np.asarray(Image.open(io.BytesIO(whole))) == 100).all()


@pytest.mark.parametrize("size", [(400, 300), (130, 130), (60, 500)])
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_label_stays_in_the_picture(size: tuple[int, int], corner: tuple[int, int], monkeypatch) -> None:
    drawn, real = [], ImageDraw.ImageDraw.text

    def text(self, xy, words, **options):
        drawn.append(self.textbbox(xy, words, font=options["font"]))
        real(self, xy, words, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    (width, height), side = size, 40
    box = (corner[0] * (width - side), corner[1] * (height - 8), side, side)
    annotated(np.zeros((height, width, 3), np.uint8), [box], [("surprise", False)])
    left, top, right, bottom = drawn[0]
    assert left >= 0 and top >= 0 and right <= width and bottom <= height


def test_an_enlarged_crop_shows_its_own_pixels() -> None:
    crop = np.random.default_rng(0).integers(0, 255, (48, 48), dtype=np.uint8)
    assert (np.asarray(enlarged(crop))[::4, ::4] == crop).all()


def test_a_box_is_drawn_in_the_photos_own_pixels():
    figure = board(b"jpeg", (4000, 3000), (400, 300))
    assert figure.layout.xaxis.range == (0, 4000) and figure.layout.yaxis.range == (3000, 0), "y goes down"
    assert figure.layout.yaxis.scaleanchor == "x", "a narrow place shrinks the photo and does not squeeze it"
    image = figure.layout.images[0]
    assert (image.x, image.y, image.sizex, image.sizey) == (0, 0, 4000, 3000)
    assert image.source == "data:image/jpeg;base64,anBlZw==" and figure.layout.dragmode == "select"
