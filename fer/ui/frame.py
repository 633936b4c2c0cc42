"""The frame that every page opens with: title, our own menu, and errors as messages."""

from __future__ import annotations

import atexit
import gc
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import streamlit as st
from starlette.formparsers import MultiPartParser
from streamlit import delta_generator

from fer import access
from fer.errors import FerError
from fer.photos import MAX_ZIP_BYTES
from fer.runs import ACTIVE, Run, RunStore
from fer.ui import login


@dataclass(frozen=True)
class Page:
    """A page of the menu: its script, title, icon and the sentence under its title."""

    script: str
    title: str
    icon: str
    lead: str


PAGES = {
    "home": Page(
        "streamlit_app.py", "Home", ":material/home:", "Train, compare and try networks that read facial expressions."
    ),
    "data": Page("pages/data.py", "Data", ":material/photo_library:", "What is in a data set, and how many of each."),
    "train": Page(
        "pages/train.py",
        "Train",
        ":material/play_circle:",
        "Choose a recipe, change what you like, see what it costs, launch.",
    ),
    "runs": Page(
        "pages/runs.py",
        "Runs",
        ":material/monitoring:",
        "What is happening now, and everything that was trained before.",
    ),
    "compare": Page(
        "pages/compare.py",
        "Compare",
        ":material/stacked_line_chart:",
        "Which change helped, by how much, and at what cost.",
    ),
    "evaluate": Page(
        "pages/evaluate.py", "Evaluate", ":material/grid_on:", "Where a network is right and where it is wrong."
    ),
    "predict": Page(
        "pages/predict.py",
        "Predict",
        ":material/add_a_photo:",
        "What the faces in your photo look like to a trained network.",
    ),
}


# What becomes a link, an icon or a typographic sign: `a:b`, `www.`, `a@b`, `->`, `<-`, `--`, `>=`, `<=`, `~=`.
_LIVE = re.compile(r":(?=\S)|w(?=ww\.)|@(?=\w)|-(?=[->])|<(?=[-=])|[>~](?==)", re.IGNORECASE)

# Starlette writes an upload of more than 1 MB to a temporary file while it arrives; a photo shall stay in memory,
# in a zip too.
MultiPartParser.spool_max_size = MAX_ZIP_BYTES + 1024 * 1024

_VISITS: Counter[str] = Counter()

# A round face for the browser's tab: Streamlit's own icons for tabs come from a server elsewhere.
_ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><circle cx="32" cy="32" r="29" fill="#2b7fc4"/>
<g fill="white"><circle cx="23" cy="24" r="4"/><circle cx="41" cy="24" r="4"/></g>
<path d="M19 40a14.5 14.5 0 0 0 26 0" fill="none" stroke="white" stroke-width="4" stroke-linecap="round"/></svg>"""

# Streamlit asks at the first element whether it runs in Python's own console, and reads the source of all that is being called for
# that: a tenth of a second of the first page. Here it runs on its server.
delta_generator._use_warning_has_been_displayed = True


@contextmanager
def frame(name: str) -> Iterator[tuple[RunStore, list[Run]]]:
    """Draw the page's head and menu, and show a FerError as a message. Others stay loud.

    Hands out the run store and all its runs, newest first, archived ones too: a page lists the store once, here.
    """
    page = PAGES[name]
    title = "FER Lab" if name == "home" else f"{page.title} - FER Lab"
    with spared_collector(name):
        st.set_page_config(page_title=title, page_icon=_ICON, layout="wide", menu_items={})
        st.html(_CSS)
        login.gate()
        store = RunStore()
        try:
            _menu()
            _only_looking()
            st.title("FER Lab" if name == "home" else page.title, anchor=False)
            st.markdown(page.lead)
            runs = store.runs(archived=True)
            _activity(runs)
            yield store, runs
        except FerError as error:
            st.error(plain(str(error)), icon=":material/error:")


@contextmanager
def spared_collector(name: str) -> Iterator[None]:
    """Let no garbage be looked for in a page's first run, which makes next to none, and take what it has left, its modules and
    the runs it read, out of the collector's sight: going through all that takes longer than most pages do. What
    nobody refers to any more is freed as before, save for rings, so those are collected first.
    """
    _VISITS[name] += 1
    if _VISITS[name] == 1:
        gc.disable()
    elif _VISITS[name] == 2:
        gc.collect()
        gc.freeze()
        atexit.register(gc.unfreeze)  # so that what is still there at the end is taken down in order
    try:
        yield
    finally:
        gc.enable()


def _menu() -> None:
    with st.sidebar:
        st.markdown("### FER Lab", help="Facial-expression recognition on 48x48 grey faces")
        for page in PAGES.values():
            st.page_link(page.script, label=page.title, icon=page.icon, width="stretch")


def _only_looking() -> None:
    reason = access.why_not()
    if reason:
        st.sidebar.caption(f":material/visibility: Only looking. {plain(reason[0].upper() + reason[1:])}")


def _activity(runs: Sequence[Run]) -> None:
    active = [r for r in runs if r.state in ACTIVE]
    running = sum(r.state != "queued" for r in active)
    if active:
        st.sidebar.caption(f":material/sync: {running} running, {len(active) - running} queued")


def dark() -> bool:
    """Whether the page is shown on a dark background."""
    return st.context.theme.type == "dark"


def plain(text: str) -> str:
    """Text for Streamlit's Markdown with nothing in it taken as markup, links, maths, colours, icons or arrows.

    Links and icons are found after escapes are gone, so an invisible word joiner parts what would make one.
    """
    text = _LIVE.sub(lambda m: m[0][0] + "\u2060" + m[0][1:], text)
    return "".join("\\" + c if c in "\\`*_{}[]()<>#+-.!|~$:&" else " " if c in "\r\n" else c for c in text)


# Streamlit's first screen begins far down and its menu items stand far apart; nothing here hides a control.
_CSS = """<style>
.stMainBlockContainer {padding-top: 3.2rem; padding-bottom: 4rem; max-width: 1320px;}
[data-testid="stSidebarUserContent"] {padding-top: 0.5rem;}
[data-testid="stMetricValue"] {font-variant-numeric: tabular-nums;}
@media (max-width: 640px) {.stMainBlockContainer {padding-left: 1rem; padding-right: 1rem;}}
</style>"""
