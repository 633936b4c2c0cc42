"""Story: upload a photo of a person, see the face boxed and seven probabilities; a file that is no photo is said to be none."""

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from fer.data.dataset import CLASSES
from tests.e2e.conftest import Server


@pytest.fixture
def astronaut(tmp_path: Path) -> Path:
    from skimage.data import astronaut

    path = tmp_path / "astronaut.jpg"
    Image.fromarray(astronaut()).save(path, quality=92)
    return path


def test_a_box_and_seven_probabilities(server: Server, page: Page, astronaut: Path) -> None:
    page.goto(f"{server.url}/predict?run=baseline")
    page.locator("input[type=file]").set_input_files(str(astronaut))
    expect(page.get_by_text("looks", exact=False).first).to_be_visible(timeout=60_000)
    chart = page.get_by_test_id("stPlotlyChart").first
    expect(chart).to_be_visible()
    for name in CLASSES:
        expect(chart.get_by_text(name, exact=True)).to_be_visible()
    expect(page.get_by_alt_text("face 1 looks", exact=False)).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_file_that_is_no_picture(server: Server, page: Page, tmp_path: Path) -> None:
    fake = tmp_path / "holiday.jpg"
    fake.write_bytes(b"%PDF-1.7 not a picture")
    page.goto(f"{server.url}/predict?run=baseline")
    page.locator("input[type=file]").set_input_files(str(fake))
    expect(page.get_by_text("holiday.jpg", exact=False).first).to_be_visible(timeout=60_000)
    expect(page.get_by_test_id("stAlert").first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
