"""The frame: text of users stays text, uploads stay in memory, the garbage collector is spared."""

from __future__ import annotations

import contextlib
import gc

import pytest
from starlette.formparsers import MultiPartParser

from fer.errors import FerError
from fer.photos import MAX_ZIP_BYTES
from fer.results import harmless
from fer.ui.frame import plain, spared_collector

JOINER = "\u2060"


@pytest.mark.parametrize(
    ("text", "live"),
    [
        (":material/home: x", ":m"),
        ("https://evil.example", ":/"),
        ("www.evil.example", "www"),
        ("me@evil.example", "@e"),
        ("a -> b", "->"),
        ("a--b", "--"),
    ],
)
def test_what_would_become_a_link_an_icon_or_a_sign_is_parted(text: str, live: str) -> None:
    shown = plain(text).replace("\\", "")
    assert live not in shown
    assert shown.replace(JOINER, "") == text


def test_ordinary_text_is_not_touched_but_for_escapes() -> None:
    assert plain("val top-1: 55 %, 3 x 3").replace("\\", "") == "val top-1: 55 %, 3 x 3"
    assert plain("*a* [b](c) <d>") == r"\*a\* \[b\]\(c\) \<d\>"


def test_a_photo_is_never_spooled_to_disk() -> None:
    assert MultiPartParser.spool_max_size > MAX_ZIP_BYTES


def test_a_formula_in_a_cell_becomes_text() -> None:
    assert harmless('=HYPERLINK("http://x")') == '\'=HYPERLINK("http://x")'
    assert harmless("plain") == "plain"
    assert harmless(-1.5) == -1.5


def test_garbage_is_not_looked_for_in_a_pages_first_run_and_is_again_after_it() -> None:
    with contextlib.suppress(FerError), spared_collector("a page"):
        rests = not gc.isenabled()
        raise FerError("what ends a page")
    assert rests and gc.isenabled()
    with spared_collector("a page"):
        assert gc.isenabled()
