"""The parts of the Evaluate page: which run on which pictures, its report, and what the report says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fer.data import dataset
from fer.data.dataset import CLASSES, SAMPLE, SPLITS
from fer.errors import FerError
from fer.plots.evaluation import VIEWS, biggest_confusions, confusion_heatmap
from fer.runs import Run, RunStore, by_merit
from fer.ui.frame import dark, plain
from fer.ui.loaders import load_dataset, shown
from fer.ui.parts import chart, data_notes, percent, pick_run

_FRESH = "evaluate-reports"  # reports of this session, for a store that cannot be written
_DATA_HELP = "The run's own data set stands first; others need the same classes."
_SPLIT_HELP = "train: what it learned from. val: what epochs and settings are chosen by. test: looked at last."


def choose(everything: Sequence[Run]) -> tuple[Run | None, str, str]:
    """Run, data set and split, kept in the URL; by default the best run, its own data set and val.

    The run is None where none has a report or weights.
    """
    first, second, third = st.columns([5, 3, 2])
    runs = _runs(shown(everything))
    with first:
        run = pick_run("Run", runs, help="Its best epoch's weights are evaluated.")
    if run is None:
        return None, "", ""
    with second:
        name = st.selectbox("Data set", _datasets(run), key="data", bind="query-params", help=_DATA_HELP)
    splits = _splits(run, name)
    default = "val" if "val" in splits else splits[0]
    with third:
        split = st.segmented_control(
            "Split", splits, default=default, required=True, key="split", bind="query-params", help=_SPLIT_HELP
        )
    return run, name, split


def report_for(store: RunStore, run: Run, name: str, split: str) -> dict[str, Any] | None:
    """The saved report, or one made at the press of a button; None until then. Raises FerError where it cannot be made."""
    key = (str(store.root), run.id, name, split)
    report = _newer(_saved(run, name, split), st.session_state.get(_FRESH, {}).get(key))
    if report is None:
        with st.container(border=True):
            st.markdown(f"**Not evaluated yet.** There is no report of {plain(run.name)} on {plain(name)}, {split}.")
            pressed = _evaluate_button(run, "Evaluate now")
    else:
        pressed = _is_stale(run, report) and _evaluate_button(run, "Evaluate again")
    if pressed:
        fresh = _evaluate(store, run, name, split)
        st.session_state[_FRESH] = {**st.session_state.get(_FRESH, {}), key: fresh}
        st.rerun()  # so that the picker, the splits and the button see it too
    return report


def figures(report: Mapping[str, Any]) -> None:
    """The four numbers of a report."""
    row = st.container(horizontal=True, gap="medium")
    row.metric(
        "Top-1",
        percent(report["top1"]),
        help="The share of pictures whose most probable class is the labelled one.",
        width="content",
    )
    row.metric(
        "Macro F1",
        percent(report["macro_f1"]),
        help="The plain mean of each class's F1, so that a rare class counts as much as a frequent one.",
        width="content",
    )
    row.metric(
        "Loss",
        f"{report['loss']:.4f}",
        help="Mean cross-entropy a picture, natural logarithm; guessing all classes alike gives "
        f"{np.log(len(report['classes'])):.3f}.",
        width="content",
    )
    row.metric("Pictures", f"{report['n']:,}", width="content")


def notes(run: Run, report: Mapping[str, Any], name: str) -> None:
    """What must be known beside the figures: synthetic data, the splits' caveat, changed data, a report not saved."""
    own = name == run.data_name
    data_notes([run] if own or run.synthetic else [])  # the caveat is about the splits of the run's own data
    if report.get("split_note") and not (own and report["split_note"] == run.split_note):
        st.caption(f":material/info: {plain(report['split_note'])}")
    if not own:
        drawn = ", which is synthetic" if name == SAMPLE else ""
        st.caption(f":material/info: Evaluated on {plain(name)}{drawn}; the run was trained on {plain(run.data_name)}.")
    elif report.get("fingerprint") and run.fingerprint and report["fingerprint"] != run.fingerprint:
        st.caption(
            f":material/warning: The data set {plain(name)} is no longer the one that the run was trained on: these pictures may be among those it learned from."
        )
    if report.get("saved") is False:
        st.caption(":material/info: The run store cannot be written, so this report lasts for this session only.")


def confusion(report: Mapping[str, Any]) -> None:
    """The confusion matrix in the view of the URL, and the biggest confusions in sentences."""
    matrix, classes = np.array(report["confusion_matrix"]), report["classes"]
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.subheader("Confusion matrix", anchor=False)
        view = st.segmented_control(
            "Numbers",
            VIEWS,
            default=VIEWS[0],
            required=True,
            key="view",
            bind="query-params",
            label_visibility="collapsed",
        )
    sentences = confusion_sentences(matrix, classes)
    chart(
        confusion_heatmap(matrix, classes, view=view, dark=dark()),
        key="confusion",
        alt=f"Confusion matrix of {len(classes)} classes. {' '.join(sentences)}",
    )


def per_class(report: Mapping[str, Any]) -> None:
    """Precision, recall, F1 and number of pictures of each class."""
    st.subheader("Class by class", anchor=False)
    rows = [
        {"Class": name, "Precision": 100 * row["precision"], "Recall": 100 * row["recall"], "F1": 100 * row["f1"]}
        for name, row in report["per_class"].items()
    ]
    table = pd.DataFrame(rows).assign(Pictures=[row["n"] for row in report["per_class"].values()])
    column = st.column_config
    columns: dict[str, Any] = {
        "Class": column.TextColumn(width=90),
        "Precision": column.NumberColumn(
            format="%.1f %%", help="Of the pictures called so, the share that are.", width=75
        ),
        "Recall": column.NumberColumn(
            format="%.1f %%", help="Of the pictures that are, the share called so.", width=75
        ),
        "F1": column.ProgressColumn(
            format="%.1f %%", min_value=0, max_value=100, help="The harmonic mean of precision and recall.", width=130
        ),
        "Pictures": column.NumberColumn(format="localized", width=75),
    }
    st.dataframe(table, hide_index=True, column_config=columns, height="content")


def worst(report: Mapping[str, Any]) -> None:
    """The biggest confusions in sentences."""
    st.subheader("What it mixes up", anchor=False)
    sentences = confusion_sentences(np.array(report["confusion_matrix"]), report["classes"])
    st.markdown(
        "\n".join(f"- {plain(s)}" for s in sentences) or "Nothing: every picture was called what its label says."
    )


def confusion_sentences(matrix: np.ndarray, classes: list[str]) -> list[str]:
    """'fear is most often taken for sad: 112 of 496.' for the classes that suffer most, at most three."""
    return [
        f"{c.true} is most often taken for {c.predicted}: {c.count:,} of {c.n:,}."
        for c in biggest_confusions(matrix, classes)
    ]


# --- reports


def _runs(listed: Sequence[Run]) -> list[Run]:
    """The runs to choose from: with a report before those with weights only, photographs before drawn faces, best first."""
    reported, others = [], []
    for run in listed:
        # Of a run that can be evaluated again, the reports need not be read to list it.
        if run.has_reports and (run.has_weights or any(_whole(report) for report in _all_reports(run))):
            reported.append(run)
        elif run.has_weights:
            others.append(run)
    return _ranked(reported) + _ranked(others)


def _ranked(runs: list[Run]) -> list[Run]:
    """By merit, then those without a figure."""
    ranked = by_merit(runs)
    ids = {r.id for r in ranked}
    return ranked + [r for r in runs if r.id not in ids]


def _saved(run: Run, name: str, split: str) -> dict[str, Any] | None:
    report = run.report(split, _fingerprint(run, name))
    return report if _whole(report) else None


def _all_reports(run: Run) -> list[Any]:
    return [report for by_split in run.reports.values() for report in by_split.values()]


def _newer(saved: dict[str, Any] | None, fresh: dict[str, Any] | None) -> dict[str, Any] | None:
    """The saved report unless this session made one of a later epoch, which a read-only store could not take."""
    if saved is None or fresh is None:
        return saved or fresh
    return fresh if fresh["epoch"] > saved.get("epoch", 0) else saved


def _whole(report: Any) -> bool:
    """Whether a report read from disk has what the page shows; files can be edited and damaged."""
    try:
        size = len(report["classes"])
        matrix, rows = report["confusion_matrix"], report["per_class"].values()
        numbers = [report[key] for key in ("n", "loss", "top1", "macro_f1")]
        numbers += [row[key] for key in ("precision", "recall", "f1", "n") for row in rows]
        numbers += [cell for cells in matrix for cell in cells]
        square = len(matrix) == len(rows) == size and all(len(cells) == size for cells in matrix)
        return square and all(map(math.isfinite, numbers))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False


def _is_stale(run: Run, report: Mapping[str, Any]) -> bool:
    """Whether the run has got a better epoch since; says so where it has."""
    if run.shipped or not run.best or report.get("epoch") in (None, run.best["epoch"]) or not run.has_weights:
        return False
    st.caption(
        f":material/update: This report is of epoch {report['epoch']}; the best epoch is now {run.best['epoch']}."
    )
    return True


def _evaluate_button(run: Run, label: str) -> bool:
    if not run.has_weights:
        st.caption(":material/info: The run has no weights, so only its saved reports can be shown.")
        return False
    return st.button(label, type="primary", icon=":material/play_arrow:", key="evaluate")


def _evaluate(store: RunStore, run: Run, name: str, split: str) -> dict[str, Any]:
    with st.spinner(f"Evaluating on {plain(name)}, {split}"):
        from fer.evaluate import evaluate_run

        return evaluate_run(store, run.id, name, split)


# --- data sets


def _datasets(run: Run) -> list[str]:
    """The run's own data set, prepared here or not, then the prepared ones with the same classes."""
    own = run.data_name
    classes = _classes(run)
    return [own, *(name for name in dataset.available() if name != own and _classes_of(name) == classes)]


def _classes(run: Run) -> tuple[str, ...]:
    for report in _all_reports(run):
        if _whole(report):
            return tuple(report["classes"])
    return _classes_of(run.data_name) if run.data_name in dataset.available() else CLASSES


def _classes_of(name: str) -> tuple[str, ...] | None:
    """The classes of a prepared data set; None where its file cannot be read."""
    if name == SAMPLE:
        return CLASSES
    try:
        return tuple(dataset.load_head(name)["classes"])
    except FerError:
        return None


def _fingerprint(run: Run, name: str) -> str:
    """The fingerprint that a report on this data set is kept under; '-' where the data set was never made here."""
    if name == run.data_name:
        return run.fingerprint
    return dataset.load_head(name)["fingerprint"] if dataset.dataset_path(name).is_file() else "-"


def _splits(run: Run, name: str) -> list[str]:
    """The splits that can be shown or evaluated, in the order train, val, test."""
    known = set(run.reports.get(_fingerprint(run, name), {}))
    if dataset.dataset_path(name).is_file():
        data = load_dataset(name)
        if name == run.data_name and run.config:
            data = data.with_val_fraction(run.config.data.val_fraction)
        known |= set(data.split_names)
    elif name == SAMPLE:
        known = set(SPLITS)
    return [s for s in SPLITS if s in known] or ["val"]
