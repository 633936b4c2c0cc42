"""Small parts that several pages show: states, notes on data, empty pages, numbers as text, and the run picker."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import plotly.graph_objects as go
import streamlit as st

from fer.experiments import groups, seeds_last
from fer.plots.style import PLOT_CONFIG
from fer.recipes import RECIPES
from fer.results import as_csv
from fer.runs import Run
from fer.ui.frame import plain

STATE_ICONS = {
    "queued": ":material/schedule:",
    "running": ":material/sync:",
    "stopping": ":material/hourglass_top:",
    "stopped": ":material/pause_circle:",
    "finished": ":material/check_circle:",
    "failed": ":material/error:",
    "lost": ":material/help:",
    "broken": ":material/broken_image:",
}
# A table's cells take text only: these signs stand for the icons there.
STATE_SIGNS = {
    "queued": "…",
    "running": "▶",
    "stopping": "▷",
    "stopped": "‖",
    "finished": "✓",
    "failed": "✕",
    "lost": "?",
    "broken": "!",
}
_STATE_COLOURS = {
    "running": "blue",
    "stopping": "orange",
    "finished": "green",
    "failed": "red",
    "lost": "orange",
    "broken": "red",
}


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as per cent, '-' where there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def state_badge(state: str) -> None:
    """A state as a word with its icon."""
    st.badge(state, icon=STATE_ICONS[state], color=_STATE_COLOURS.get(state, "gray"))


def state_cell(run: Run) -> str:
    """A state for a table's cell: its sign and word, and that it is damaged or archived where it is."""
    return f"{STATE_SIGNS[run.state]} {run.state_in_words}" + ", archived" * run.notes.archived


def run_label(run: Run) -> str:
    """A run in a picker: its name, its data, and its best figure."""
    best = f", best val top-1 {percent(run.best['val_top1'])}" if run.best else ""
    data = f"{run.data_name}, synthetic" if run.synthetic else run.data_name
    changes = own_changes(run)
    return f"{run.name} ({data}{f', {changes}' if changes else ''}{best})"


def own_changes(run: Run) -> str:
    """What a run changes from its recipe besides data, seed and where it ran: 'optim.lr 0.003'; '' where nothing."""
    changes = run.changes.items()
    return ", ".join(f"{p} {v}" for p, v in changes if p not in ("data.name", "seed") and not p.startswith("runtime."))


def recipe_title(run: Run) -> str:
    """The recipe's title, such as 'Step decay'; fit for Markdown."""
    return RECIPES[run.recipe].title if run.recipe in RECIPES else plain(run.recipe)


def data_notes(runs: list[Run], *, remarks: bool = False) -> None:
    """What must be said beside figures of these runs: synthetic faces, val as the only held-out split, and, where
    their cost is shown too, what whoever shipped them remarks on it. Each note once; where it is not of all of the runs it names its own."""
    drawn = [r.name for r in runs if r.synthetic]
    if drawn:
        st.caption(
            f":material/draw: Synthetic: {plain(', '.join(drawn))} {'was' if len(drawn) == 1 else 'were'} trained on faces drawn by FER Lab, not on photographs."
        )
    noted: dict[str, list[Run]] = {}
    for run in runs:
        for note in filter(None, dict.fromkeys((run.split_note, run.start_note, run.remark if remarks else None))):
            noted.setdefault(note, []).append(run)
    for note, its in sorted(noted.items()):
        whose = f"{_together(its, runs)}: " if len(its) < len(runs) else ""
        st.caption(f":material/info: {plain(whose + note)}")


def _together(some: Sequence[Run], runs: Sequence[Run]) -> str:
    """Which of the runs these are: 'baseline (3 seeds), strong'; the seeds of an experiment by name where they are not all of it."""
    ids, names = {r.id for r in some}, []
    for group in groups(runs):
        mine = [r.name for r in group.runs if r.id in ids]
        whole = len(mine) == len(group.runs) > 1
        names += [f"{group.label} ({len(mine)} seeds)"] if whole else mine
    return ", ".join(names)


def empty(text: str, page: str, label: str, icon: str) -> None:
    """What a page says when it has nothing to show, and the one thing to do about it."""
    with st.container(border=True):
        st.markdown(text)
        st.page_link(page, label=label, icon=icon)


def chart(figure: go.Figure, *, key: str, alt: str, on_select: Literal["rerun", "ignore"] = "ignore") -> Any:
    """A figure in the common look; `alt` says in words what it shows. Its camera saves it as a picture named by the key.

    Returns Streamlit's state of what is selected, where `on_select` asks for it.
    """
    config = {**PLOT_CONFIG, "toImageButtonOptions": {"format": "png", "scale": 2, "filename": f"fer-lab-{key}"}}
    return st.plotly_chart(
        figure,
        width="stretch",
        theme=None,
        key=key,
        config=config,
        alt=alt,
        on_select=on_select,
        selection_mode=("points",),
    )


def table(rows: Sequence[Mapping[str, Any]], **options: Any) -> Any:
    """Rows with the same keys as Streamlit's table: text, numbers, booleans and None; options: those of `st.dataframe`.

    They are handed over whole, as Arrow that was read from JSON: every other way imports pandas, which takes longer than the
    whole page.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    schema = pa.schema([(key, _arrow_type({type(row[key]) for row in rows})) for key in rows[0]])
    content = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    return st.dataframe(
        arrow_json.read_json(content, parse_options=arrow_json.ParseOptions(explicit_schema=schema)),
        hide_index=True,
        width="stretch",
        lazy=False,
        **options,
    )


def _arrow_type(kinds: set[type]) -> Any:
    """The type of a column that holds values of these kinds; whole numbers among others are numbers."""
    import pyarrow as pa

    kinds = kinds - {type(None)}
    if kinds == {bool}:
        return pa.bool_()
    return pa.string() if not kinds or str in kinds else pa.int64() if kinds == {int} else pa.float64()


def csv_button(
    rows: Sequence[Mapping[str, Any]] | Callable[[], Sequence[Mapping[str, Any]]],
    name: str,
    *,
    key: str,
    label: str = "Download as CSV",
    help: str = "At full precision; shares are fractions from 0 to 1, as in the files of a run.",
) -> None:
    """A button that saves a table at full precision, its text made harmless for spreadsheets.

    rows: or what makes them, which is asked when the button is pressed. name: the file's, without its ending.
    """

    def content() -> bytes:
        return as_csv(rows() if callable(rows) else rows)

    st.download_button(
        label,
        content,
        f"{name}.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        key=key,
        help=help,
    )


def keep_in_address(key: str, value: str) -> None:
    """Let the address say this. Each writing is a step of the browser's history, so only a change is written."""
    if value != st.query_params.get(key):
        st.query_params[key] = value


def pick_run(
    label: str, runs: list[Run], *, key: str = "run", default: str | None = None, help: str | None = None
) -> Run | None:
    """Choose one run, kept in the URL under `key`; None where there is none to choose. Further seeds of a run stand below."""
    if not runs:
        return None
    by_id = {r.id: r for r in seeds_last(runs)}
    ids = list(by_id)
    wanted = st.query_params.get(key, default)
    index = ids.index(wanted) if wanted in by_id else 0
    if key in st.query_params and wanted not in by_id:
        st.warning(
            f"The link names the run {plain(str(wanted))}, which cannot be shown here. This is another one.",
            icon=":material/link_off:",
        )
    chosen = st.selectbox(
        label, ids, index=index, format_func=lambda i: run_label(by_id[i]), key=f"pick-{key}", help=help
    )
    keep_in_address(key, chosen)
    return by_id[chosen]
