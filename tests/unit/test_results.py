"""Answers as a table: one row a face, the problem where there is none, and nothing that a spreadsheet takes for a formula."""

from __future__ import annotations

import io
import os

import pandas as pd
import pytest

from fer.results import as_csv, harmless, result_rows

FACE = {"box": [1, 2, 30, 40], "label": "b", "confidence": 0.7, "unsure": True, "probs": {"a": 0.3, "b": 0.7}}
ENTRIES = [
    {"image": "two.png", "width": 100, "height": 80, "faces": [FACE, FACE]},
    {"image": "none.png", "width": 9, "height": 9, "faces": []},
    {"image": "bad.png", "error": "'bad.png' is empty."},
]


def test_a_row_a_face_or_the_problem():
    rows = result_rows(ENTRIES, ("a", "b"))
    assert [(r["photo"], r["face"], r["label"], r["unsure"], r["problem"]) for r in rows] == [
        ("two.png", 1, "b", True, None),
        ("two.png", 2, "b", True, None),
        ("none.png", None, None, None, "no face found"),
        ("bad.png", None, None, None, "'bad.png' is empty."),
    ]
    assert {tuple(r) for r in rows} == {tuple(rows[0])}, "every row has the same columns in the same order"


def test_the_csv_has_whole_pixels_and_fractions():
    table = pd.read_csv(io.BytesIO(as_csv(result_rows(ENTRIES, ("a", "b")))))
    assert table["box_height"][0] == 40 and table["b"][1] == 0.7
    assert "1,2,30,40" in as_csv(result_rows(ENTRIES, ("a", "b"))).decode()


@pytest.mark.parametrize("text", ["=a", "+a", "-a", "@a", " =a", "\t=a", "\n=a"])
def test_formula_beginnings_are_made_harmless(text: str):
    assert harmless(text) == "'" + text
    assert as_csv([{"photo": text}]).decode().splitlines()[1].lstrip('"').startswith("'")


def test_the_csv_begins_as_excel_wants_utf8_to():
    content = as_csv([{"photo": "käse.png"}])
    assert content == "\ufeffphoto\nkäse.png\n".encode()
    assert pd.read_csv(io.BytesIO(content))["photo"].item() == "käse.png"


def test_numbers_and_plain_text_stay_as_they_are():
    assert [harmless(v) for v in (-1.5, None, "a=b", "")] == [-1.5, None, "a=b", ""]


def test_a_file_name_need_not_be_utf8():
    assert "\\udcff.png" in as_csv([{"photo": os.fsdecode(b"\xff.png")}]).decode()
