"""The tables of the Compare page: the figures of each run or group, their settings, and all other runs to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from fer import access
from fer.config import flatten
from fer.experiments import Group, data_label, figures, settings_in_effect, settings_rows
from fer.plots.curves import short
from fer.plots.parallel import RESULT, parallel_coordinates
from fer.runs import Run, RunStore
from fer.ui import notes
from fer.ui.frame import dark
from fer.ui.loaders import shown
from fer.ui.parts import STATE_SIGNS, chart, csv_button, own_changes, state_cell, table

_POINTS = (
    "best_val_top1",
    "best_val_top1_std",
    "difference",
    "last_val_top1",
    "train_top1_at_best",
    "gap_at_best",
    "val_macro_f1_at_best",
    "test_top1",
    "ece",
    "ece_after",
)
_USUAL = (
    "label", "best_val_top1", "best_val_top1_std", "n", "difference", "best_epoch", "last_val_top1", "gap_at_best",
    "val_macro_f1_at_best", "num_params", "epoch_seconds_median", "state",
)  # fmt: skip
_PARALLEL_FROM = 6
_WHOLE_ROWS = 16  # of a table that is shown without scrolling
_PICKER, _PICKED = "compare-runs", "compare-picked"


def summary(groups: Sequence[Group], baseline: Group | None = None) -> list[dict[str, Any]]:
    """One row a run or group, in the units of the files: fractions 0 to 1, seconds, natural log; None where nothing is known."""
    return [{**figures(g, baseline), **_said(g)} for g in groups]


def _said(group: Group) -> dict[str, Any]:
    """What people say of its runs."""
    tags = dict.fromkeys(t for r in group.runs for t in r.notes.tags)
    return {"tags": ", ".join(tags), "note": " / ".join(r.notes.note for r in group.runs if r.notes.note)}


def figures_table(store: RunStore, groups: Sequence[Group], baseline: Group) -> None:
    """The figures of each run or group: filter, choose columns and rows, sort by a column's head, save as CSV."""
    raw = summary(groups, baseline if len(groups) > 1 else None)
    columns = {k: v for k, v in _columns(seeds=any(len(g.measured) > 1 for g in groups)).items() if k in raw[0]}
    usual = [c for c in _USUAL if any(row.get(c) is not None for row in raw)]
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(groups) > 1:
            place = st.popover("Filter", icon=":material/filter_alt:")
            left = {r.id for r in _filtered([r for g in groups for r in g.runs], "filter", (place, place, place))}
            kept = [i for i, g in enumerate(groups) if left & {r.id for r in g.runs}]
            if len(kept) < len(groups):
                st.caption(f"{len(kept)} of {len(groups)} rows.", width="content")
            groups, raw = [groups[i] for i in kept], [raw[i] for i in kept]
        if not raw:
            return
        csv_button(raw, "fer-lab-comparison", key="csv")
        with st.popover("Columns", icon=":material/view_column:"):
            wanted = st.multiselect(
                "Columns",
                list(columns),
                default=usual,
                format_func=lambda c: columns[c]["label"] or c,
                key=f"columns-{len(usual)}",
                label_visibility="collapsed",
            )
        if access.may_change():
            with st.popover("Rename, tag, pin, delete", icon=":material/edit:"):
                _edit(store, [r for g in groups for r in g.runs])
    chosen = table(
        [_on_screen(row, g) for row, g in zip(raw, groups, strict=True)],
        column_config=columns,
        column_order=["label", *(c for c in columns if c in wanted and c != "label")],
        key=f"figures-{hash(tuple(g.key for g in groups))}",
        on_select="rerun",
        selection_mode="multi-row",
        height="content" if len(raw) <= _WHOLE_ROWS else "auto",
        placeholder="",
        alt="The figures of the chosen runs, one row each.",
    )
    rows = chosen.selection.rows
    if rows and len(rows) < len(groups):
        _choose_button(f"Show only the {len(rows)} selected", [r.id for i in rows for r in groups[i].runs])


def _choose_button(label: str, run_ids: Sequence[str]) -> None:
    """A button that makes these the page's runs, as if they had been picked."""

    def pick() -> None:
        st.session_state[_PICKER], st.session_state[_PICKED] = list(run_ids), True

    if st.button(label, icon=":material/filter_list:", key="choose-these", type="primary", on_click=pick):
        st.rerun()


def _edit(store: RunStore, runs: Sequence[Run]) -> None:
    names = {r.id: r.name for r in runs}
    run_id = st.selectbox("Run", list(names), format_func=names.__getitem__, key="edit-run")
    notes.edit(store, next(r for r in runs if r.id == run_id))


def _columns(*, seeds: bool) -> dict[str, Any]:
    """The columns on the screen; seeds: whether a row is of several, so that a head says how they are put together."""
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    return {
        "label": text("run", pinned=True, width=170),
        "best_val_top1": number(
            "best val top-1, %",
            format="%.2f",
            help="The highest share of validation pictures classified right, over all epochs; of several seeds the mean.",
        ),
        "best_val_top1_std": number(
            "± std over seeds", format="%.2f", help="Standard deviation of the best val top-1."
        ),
        "n": number("seeds", format="%d", help="Those in which an epoch has ended; the figures are of them."),
        "difference": number(
            "difference, points",
            format="%+.2f",
            help="Best val top-1 minus the baseline's; empty where the data differ.",
        ),
        "best_epoch": number(
            "in epoch (median)" if seeds else "in epoch",
            format="%g",
            help="The epoch with the best val top-1; of several seeds the median of theirs.",
        ),
        "last_val_top1": number("last val top-1, %", format="%.2f", help="After the last epoch that ended."),
        "test_top1": number("test top-1, %", format="%.2f", help="Where there is a test split and it was evaluated."),
        "train_top1_at_best": number(
            "train top-1 there, %", format="%.2f", help="Running mean over the training pictures in the best epoch."
        ),
        "gap_at_best": number(
            "gap there, points",
            format="%.2f",
            help="Train minus val top-1 in the best epoch; a large gap says that the network overfits.",
        ),
        "val_macro_f1_at_best": number(
            "macro F1 there, %", format="%.2f", help="Mean of the classes' F1 on val in the best epoch."
        ),
        "lowest_val_loss": number(
            "lowest val loss", format="%.3f", help="Cross entropy, natural log, mean over pictures."
        ),
        "last_val_loss": number("last val loss", format="%.3f"),
        "ece": number("calibration error, %", format="%.2f", help="Expected calibration error on val, 15 bins."),
        "ece_after": number("calibration error after scaling, %", format="%.2f"),
        "num_params": number("parameters", format="localized"),
        "multiply_adds": number("multiply-adds, millions", format="%.1f", help="For one picture, forward."),
        "epoch_seconds_median": number(
            "s an epoch",
            format="%.1f",
            help="Median, training and validation together, on the machine that trained it.",
        ),
        "total_seconds": number("minutes in all", format="%.1f"),
        "epochs_done": number("epochs", format="%g"),
        "epochs_asked": number("of", format="%g"),
        "recipe": text("recipe"),
        "seeds": text("which seeds"),
        "data": text("data"),
        "tags": text("tags"),
        "note": text("note"),
        "state": text("state"),
    }


def _on_screen(row: Mapping[str, Any], group: Group) -> dict[str, Any]:
    """Per cent for fractions, millions for multiply-adds, minutes for the whole, a sign before the state, archived behind it."""
    units = {"multiply_adds": 1e6, "total_seconds": 60}
    scaled = {k: 100 * row[k] for k in _POINTS if row.get(k) is not None}
    scaled |= {k: row[k] / unit for k, unit in units.items() if row[k] is not None}
    state = row["state"]
    signed = f"{STATE_SIGNS[state]} {state}" if state in STATE_SIGNS else state
    n = sum(r.notes.archived for r in group.runs)
    archived = ", archived" if n == len(group.runs) else f", {n} of {len(group.runs)} archived" if n else ""
    return {**row, **scaled, "state": signed + archived}


# --- settings --------------------------------------------------------------------------------------------------------


def settings(groups: Sequence[Group]) -> None:
    """The settings that differ, or all; with more than five runs a figure of settings and result as well."""
    runs = [g.runs[0] for g in groups] if len(groups) > 1 else list(groups[0].runs)
    everything = st.toggle("Show all settings", key="all-settings", bind="query-params")
    rows = settings_rows(runs, everything=bool(everything))
    if not rows:
        st.markdown(
            "There is one run, so nothing differs. Choose a second one above."
            if len(runs) == 1
            else "No setting differs: these runs have the same settings and seed."
        )
        return
    columns = {
        "setting": st.column_config.TextColumn("setting", pinned=True, width=150),
        "differs": st.column_config.TextColumn("differs", width="small"),
    }
    names = [g.label for g in groups] if len(groups) > 1 else [r.name for r in runs]
    columns |= {f"run:{r.id}": st.column_config.TextColumn(short(name)) for r, name in zip(runs, names, strict=True)}
    if not everything:
        rows = [{k: v for k, v in row.items() if k != "differs"} for row in rows]
    table(rows, column_config=columns, key="settings")
    st.caption("– where a run's other settings do not use it.")
    csv_button(rows, "fer-lab-settings", key="settings-csv")
    _parallel([r for g in groups for r in g.runs])


def _parallel(runs: Sequence[Run]) -> None:
    runs = [r for r in runs if not r.members]
    if len(runs) < _PARALLEL_FROM:
        return
    flat = [settings_in_effect(r.config) for r in runs if r.config]
    paths = [p for p in flat[0] if p != "data.name" and not p.startswith("runtime.")]
    tops = [r.best["val_top1"] if r.best else None for r in runs]
    figure = parallel_coordinates({p: [f[p] for f in flat] for p in paths}, tops, dark=dark())
    if figure:
        st.subheader("Settings and result", anchor=False)
        st.caption("A line a run: blue is high, orange is low. Drag along an axis to pick out runs.")
        axes = [d.label for d in figure.data[0].dimensions if d.label != RESULT]
        chart(
            figure,
            key="parallel",
            alt=f"Parallel coordinates of {len(runs)} runs: {', '.join(axes)}, and best val top-1.",
        )
        rows = [
            {"run": r.id, **{path: of[path] for path in axes}, "best_val_top1": top}
            for r, of, top in zip(runs, flat, tops, strict=True)
            if top is not None
        ]
        csv_button(rows, "fer-lab-parallel", key="parallel-csv", label="Settings and result as CSV")


# --- all runs --------------------------------------------------------------------------------------------------------


def other_runs(everything: Sequence[Run], most: int) -> None:
    """All runs of the store, filtered by text and by a setting's value; rows of it become the page's runs."""
    archived = any(r.notes.archived for r in everything) and st.toggle(
        "Archived too",
        key="archived-too",
        bind="query-params",
        help="Those that were taken from view, here or before they came with the project.",
    )
    runs = [r for r in shown(everything, archived=bool(archived)) if r.config]
    found = _filtered(runs, "find", st.columns([3, 2, 3]))
    st.caption(f"{len(found):,} of {len(runs):,} runs. Select rows to compare them.")
    if not found:
        return
    chosen = table(
        [_row(r) for r in found],
        height=min(38 + 36 * len(found), 420),
        column_config={"best": st.column_config.NumberColumn("best val top-1, %", format="%.2f")},
        key=f"all-runs-{hash(tuple(r.id for r in found))}",
        on_select="rerun",
        selection_mode="multi-row",
        alt="All runs that the filter leaves.",
    )
    rows = chosen.selection.rows
    if len(rows) > most:
        st.warning(f"At most {most} runs can be compared; {len(rows)} are selected.", icon=":material/filter_list:")
    elif rows:
        _choose_button(f"Compare the {len(rows)} selected", [found[i].id for i in rows])


def _filtered(runs: Sequence[Run], key: str, places: Sequence[Any]) -> list[Run]:
    """The runs that the reader's words and the chosen values of a setting leave; the words are in the URL, under `key`.

    places: where to draw the three fields.
    """
    left, middle, right = places
    words = left.text_input(
        "Filter",
        key=key,
        bind="query-params",
        placeholder="name, recipe, data, tag, change",
        help="Every word must occur in the run's name, recipe, data, state, tags, note or changed settings.",
    )
    flat = {r.id: flatten(r.config) for r in runs if r.config}
    varied = _varied(list(flat.values()))
    path = middle.selectbox("Setting", list(varied), index=None, placeholder="any", key=f"{key}-setting")
    values = right.multiselect("is one of", varied[path], key=f"{key}-value-{path}") if path else []
    return [
        r
        for r in runs
        if (not values or str(flat[r.id][path]) in values) and _matches(r, (words or "").lower().split())
    ]


def _varied(flat: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The settings that have more than one value, with their values as text."""
    values = {p: sorted({str(f[p]) for f in flat}) for p in (flat[0] if flat else ())}
    return {p: v for p, v in values.items() if len(v) > 1}


def _matches(run: Run, words: Sequence[str]) -> bool:
    if not words:
        return True
    state = (run.state, *(["archived"] if run.notes.archived else []))
    said = (run.name, run.id, run.recipe, data_label(run), *state, *run.notes.tags, run.notes.note, own_changes(run))
    text = " ".join(said).lower()
    return all(word in text for word in words)


def _row(run: Run) -> dict[str, Any]:
    return {
        "run": run.name,
        "best": 100 * run.best["val_top1"] if run.best else None,
        "recipe": run.recipe,
        "changes": own_changes(run),
        "seed": run.config.seed if run.config else None,
        "data": data_label(run),
        "tags": ", ".join(run.notes.tags),
        "state": state_cell(run),
    }
