"""Story: three photos with no, one and many faces; a box set by hand; a second network; the results as CSV; an unsure answer."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """nobody.png, one.png, many.png"""
    from skimage.data import astronaut

    person = astronaut()
    small = np.asarray(Image.fromarray(person).resize((300, 300)))
    two = np.full((512, 812, 3), 90, np.uint8)
    two[:, :512], two[:300, 512:] = person, small
    paths = []
    for name, picture in (("nobody", np.full((300, 400), 120, np.uint8)), ("one", person), ("many", two)):
        paths.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(picture).save(paths[-1])
    return paths


def test_from_photos_to_a_table(server: Server, page: Page, photos: list[str], tmp_path: Path) -> None:
    page.goto(f"{server.url}/predict?run=baseline")
    page.locator("input[type=file]").set_input_files(photos)
    expect(page.get_by_text("No face found", exact=False).first).to_be_visible()
    expect(page.get_by_text("2 faces, the biggest first", exact=False)).to_be_visible()
    faces = page.get_by_text(re.compile(r"(The face|Face 1|Face 2)(: unsure| looks )"))
    expect(faces).to_have_count(3)
    expect(
        page.get_by_text(
            re.compile(r"It is unsure where .* is below \d+ %\. On val \d+ % of the faces got an answer")
        ).first
    ).to_be_visible()

    page.get_by_role("button", name="Options").click()
    page.get_by_role("combobox", name="Ask other networks too").click()
    page.get_by_role("option", name="step-decay").click()
    expect(page.get_by_text(re.compile("step-decay: ")).first).to_be_visible()
    page.keyboard.press("Escape")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download results (CSV)").click()
    download.value.save_as(tmp_path / "results.csv")
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text("utf-8-sig").splitlines()))
    assert [row["photo"] for row in rows] == ["nobody.png", "one.png", "many.png", "many.png"]
    assert rows[0]["problem"] == "no face found"
    assert all(row["unsure"] in ("True", "False") for row in rows[1:])
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_box_drawn_by_hand(server: Server, page: Page, photos: list[str]) -> None:
    page.goto(f"{server.url}/predict?run=baseline")
    page.locator("input[type=file]").set_input_files(photos[0])
    page.get_by_text("Set the box by hand", exact=True).click()
    expect(page.get_by_text(re.compile(r"The face(: unsure| looks )"))).to_be_visible()
    draw(page, (0.25, 0.2), (0.5, 0.5))
    for name, value in (("Side of the square", 100), ("From the left", 100), ("From the top", 55)):
        slider = page.get_by_test_id("stSlider").filter(has_text=name)
        near = re.compile("|".join(str(value + off) for off in (-1, 0, 1)))  # the browser's pixels are rounded
        expect(slider.get_by_test_id("stSliderThumbValue")).to_have_text(near)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def draw(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag a box over the photo of which the box is set by hand, from and to fractions of its width and height."""
    photo = page.locator(".nsewdrag.drag").first
    photo.scroll_into_view_if_needed()
    place = photo.bounding_box()
    assert place
    points = [(place["x"] + x * place["width"], place["y"] + y * place["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=8)
    page.mouse.up()


def test_noise_is_unsure(server: Server, page: Page, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(100, 140, (48, 48), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    page.goto(f"{server.url}/predict?run=baseline")
    page.locator("input[type=file]").set_input_files(str(tmp_path / "noise.png"))
    expect(page.get_by_text("The face: unsure.", exact=False)).to_be_visible()
