"""Answers about many photos as a table: one row a face, and as CSV that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are their wide forms
_WHOLE = ("width", "height", "face", "x", "y", "box_width", "box_height")


def harmless(value: Any) -> Any:
    """A cell for a CSV: text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if isinstance(value, str) and value.lstrip()[:1] in _FORMULA:
        return "'" + value
    return value


def result_rows(entries: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """One row a face: photo, size, face, box in pixels, label, confidence, unsure, a fraction for each class; or the problem.

    entries: {image, width, height, faces} or {image, error} each, as `fer.predict.predict_file` gives them; a `note` is a
    problem that left the answers as they are.
    """
    order = ("photo", *_WHOLE, "label", "confidence", "unsure", *classes, "problem")
    rows: list[dict[str, Any]] = []
    for entry in entries:
        head = {"photo": entry["image"], "width": entry.get("width"), "height": entry.get("height")}
        if not entry.get("faces"):
            rows.append({**head, "problem": entry.get("error") or entry.get("note") or "no face found"})
        for i, face in enumerate(entry.get("faces", ()), start=1):
            box = dict(zip(("x", "y", "box_width", "box_height"), face["box"], strict=True))
            said = {key: face[key] for key in ("label", "confidence", "unsure")}
            rows.append({**head, "face": i, **box, **said, **face["probs"], "problem": entry.get("note")})
    return [{key: row.get(key) for key in order} for row in rows]


def harmless_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with every cell made harmless."""
    return [{key: harmless(value) for key, value in row.items()} for row in rows]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """CSV in UTF-8 with its mark, without which Excel reads names wrong, at full precision, a column for each key in the order in which they come first; None is an empty cell.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(harmless_rows(rows))
    return file.getvalue().encode("utf-8-sig", "backslashreplace")  # a file name need not be UTF-8
