"""The parts of the Evaluate page: one run or two on which pictures, their reports, and where they are wrong."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from fer import metrics
from fer.data import dataset
from fer.data.dataset import CLASSES, SAMPLE, SPLITS
from fer.errors import FerError, RunError
from fer.experiments import data_key, groups, seeds_last
from fer.mistakes import Answer, answers, confident_mistakes, in_cell, pictures, wrong_for_all
from fer.plots.evaluation import (
    VIEWS,
    biggest_confusions,
    confusion_heatmap,
    difference,
    difference_heatmap,
    reliability_diagram,
    shares,
)
from fer.runs import TTA, Run, RunStore, by_merit, known_note, precision_of, temperature_note, whole_report
from fer.ui.frame import dark, plain
from fer.ui.loaders import load_dataset, remembered, shown
from fer.ui.parts import chart, csv_button, data_notes, keep_in_address, percent, pick_run, run_label, table
from fer.verdicts import SavedLogits, read_logits, verdicts

_FRESH = "evaluate-reports"  # reports of this session, for a store that cannot be written
_DATA_HELP = "The run's own data set stands first; others need the same classes."
_SPLIT_HELP = "train: what it learned from. val: what epochs and settings are chosen by. test: looked at last."
_VIEWS_HELP = "The network is asked about ten views of each picture, moved and mirrored, and the answers are averaged: mostly more right, and ten times the work."
_TABS = ("Confusion matrix", "Surest mistakes", "Wrong for all", "Calibration")
_DIFFERENCE = "Difference"
_PICTURES_SHOWN = (24, 60, 200)


@dataclass(frozen=True)
class Choice:
    """What the page is asked: one run or two, evaluated on a split of a data set. listed: all that could be chosen."""

    runs: tuple[Run, ...]
    data: str
    split: str
    listed: tuple[Run, ...]


def choose(everything: Sequence[Run]) -> Choice | None:
    """One run or two, data set and split, kept in the URL; by default the best run, its own data set and val.

    An archived run is listed where the URL asks for it. None where no run has a report or weights.
    """
    first, beside, second, third = st.columns([4, 4, 3, 2])
    asked = (st.query_params.get("run"), st.query_params.get("with"))
    # Archived runs that the URL asks for stand last, so that none is what the page opens on by itself.
    runs = _runs(shown(everything)) + _runs([r for r in everything if r.notes.archived and r.id in asked])
    with first:
        run = pick_run("Run", runs, help="Its best epoch's weights are evaluated.")
    if run is None:
        return None
    with beside:
        other = _second(run, [r for r in runs if r.id != run.id])
    with second:
        name = st.selectbox("Data set", _datasets(run), key="data", bind="query-params", help=_DATA_HELP)
    splits = _splits(run, name)
    default = "val" if "val" in splits else splits[0]
    with third:
        split = st.segmented_control(
            "Split", splits, default=default, required=True, key="split", bind="query-params", help=_SPLIT_HELP
        )
    return Choice((run, other) if other else (run,), name, split, tuple(runs))


def _second(first: Run, others: Sequence[Run]) -> Run | None:
    """A second run to look at beside the first, kept in the URL as `with`; None by default."""
    by_id = {r.id: r for r in seeds_last(others)}
    wanted = st.query_params.get("with")
    if wanted and wanted not in by_id:
        st.query_params.pop("with")
        if wanted != first.id:
            st.warning(
                f"The link names the run {plain(wanted)} as the second, which cannot be shown here.",
                icon=":material/link_off:",
            )
    chosen = st.selectbox(
        "Compare with",
        list(by_id),
        index=list(by_id).index(wanted) if wanted in by_id else None,
        format_func=lambda i: run_label(by_id[i]),
        placeholder="no second run",
        key="pick-with",
        help="A second run on the same pictures: what it gets right where the first does not, and the other way round.",
    )
    if chosen:
        keep_in_address("with", chosen)
    elif wanted in by_id:
        st.query_params.pop("with")
    return by_id.get(chosen) if chosen else None


def show(store: RunStore, choice: Choice) -> None:
    """Everything below the choice: the figures first, then the matrix, the mistakes and the calibration, a tab each."""
    name, split = choice.data, choice.split
    reports = [report_for(store, r, name, split) for r in choice.runs]
    own = reports[0]
    if own is None:
        return
    pairs = [(r, report) for r, report in zip(choice.runs, reports, strict=True) if report]
    pairs = [(r, report) for r, report in pairs if _same_classes(r, report, own)]
    _figures(store, pairs, choice)
    _which_is_better([r for r, _ in pairs], name, split)
    for i, (r, report) in enumerate(pairs):
        if not i or (r.data_name, r.split_note) != (pairs[0][0].data_name, pairs[0][0].split_note):
            notes(r, report, name)
    tabs = st.tabs(list(_TABS), key="tab", bind="query-params")
    parts = (_matrix_tab, _mistakes_tab, _shared_tab, _calibration_tab)
    for tab, part in zip(tabs, parts, strict=True):
        if tab.open:
            with tab:
                part(pairs, choice)


def _same_classes(run: Run, report: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
    if report["classes"] == first["classes"] and report.get("fingerprint") == first.get("fingerprint"):
        return True
    st.warning(
        f"{plain(run.name)} was evaluated on other pictures or classes, so it is left out beside the first run.",
        icon=":material/warning:",
    )
    return False


def report_for(store: RunStore, run: Run, name: str, split: str) -> dict[str, Any] | None:
    """The saved report, or one made at the press of a button; None until then. Raises FerError where it cannot be made."""
    report = _newer(_saved(run, name, split), _fresh(store, run, name, split))
    if report is None:
        with st.container(border=True):
            st.markdown(f"**Not evaluated yet.** There is no report of {plain(run.name)} on {plain(name)}, {split}.")
            pressed = _evaluate_button(run, "Evaluate now")
    else:
        pressed = _is_stale(run, report) and _evaluate_button(run, "Evaluate again")
    if pressed:
        _evaluate(store, run, name, split)
    return report


def _figures(store: RunStore, pairs: Sequence[tuple[Run, Mapping[str, Any]]], choice: Choice) -> None:
    """The numbers of one report, or of two below each other with the second's difference to the first."""
    first = pairs[0][1]
    for run, report in pairs:
        if len(pairs) > 1:
            st.markdown(f"**{plain(run.name)}**")
        row = st.container(horizontal=True, gap="medium")
        for label, key, scale, unit, number, better, help in _FIGURES:
            value = scale * report[key]
            apart = None if report is first else f"{value - scale * first[key]:+{number}}{' points' if unit else ''}"
            row.metric(
                label,
                f"{value:{number}}{unit}",
                apart,
                delta_color=better if apart and float(apart.split()[0]) else "off",
                help=help.format(chance=f"{np.log(len(report['classes'])):.3f}"),
                width="content",
            )
        averaged = _with_views(store, run, report, choice)
        if averaged is not None:
            top1 = float(averaged["top1"])
            row.metric(
                "Top-1, ten views",
                percent(top1),
                f"{100 * (top1 - report['top1']):+.2f} points",
                help=_VIEWS_HELP,
                width="content",
            )
        row.metric("Pictures", f"{report['n']:,}", width="content")
        if known := known_note(report, run, percent):
            st.caption(plain(known))
        for note in dict.fromkeys(temperature_note(r) for r in (report, averaged) if r):
            if note:
                st.caption(f":material/info: {plain(note)}")
        if averaged is None:
            _offer_views(store, run, report, choice)


_FIGURES = (
    ("Top-1", "top1", 100, " %", ".2f", "normal", "The share of pictures whose most probable class is the labelled one."),
    (
        "Macro F1", "macro_f1", 100, " %", ".2f", "normal",
        "The plain mean of each class's F1, so that a rare class counts as much as a frequent one.",
    ),
    (
        "Loss", "loss", 1, "", ".4f", "inverse",
        "Mean cross-entropy a picture, natural logarithm; guessing all classes alike gives {chance}.",
    ),
)  # fmt: skip


def _with_views(store: RunStore, run: Run, report: Mapping[str, Any], choice: Choice) -> Mapping[str, Any] | None:
    """The report with test-time views, of the same weights and pictures, with a `top1`; None where there is none."""
    split = choice.split + TTA
    for found in (run.report(split, report.get("fingerprint")), _fresh(store, run, choice.data, split)):
        if found and all(found.get(key) == report.get(key) for key in ("epoch", "fingerprint")):
            return found if isinstance(found.get("top1"), int | float) else None
    return None


def _offer_views(store: RunStore, run: Run, report: Mapping[str, Any], choice: Choice) -> None:
    """A button that evaluates with views, or why that cannot be done here, and the command."""
    other = f" --dataset {choice.data}" if choice.data != run.data_name else ""
    command = f"`python -m fer evaluate {run.id}{other} --split {choice.split} --tta`"
    if not run.has_weights:
        why = plain(run.missing_members()) or "The run has no weights to ask."
        st.caption(f":material/info: Top-1 with ten views is not known. {why} With them: {command}")
    elif not _at_hand(run, report, choice.data):
        st.caption(
            f":material/info: Top-1 with ten views is not known, and these pictures of {plain(choice.data)} are not prepared on this machine. Once they are: {command}"
        )
    elif run.best and report.get("epoch", 0) not in (0, run.best["epoch"]):
        return  # this report is of other weights; it is to be made anew first
    elif st.button(
        "Evaluate with ten views",
        icon=":material/filter_none:",
        key=f"views-{run.id}",
        help=f"{_VIEWS_HELP} In a terminal: {command}",
    ):
        _evaluate(store, run, choice.data, choice.split, tta=True)


def _at_hand(run: Run, report: Mapping[str, Any], name: str) -> bool:
    """Whether the pictures that a report is of are prepared here, so that an evaluation would be of the same."""
    if not dataset.dataset_path(name).is_file():
        return name == SAMPLE
    data = load_dataset(name)
    split_anew = data.with_val_fraction(run.config.data.val_fraction if run.config else None)
    return report.get("fingerprint") in (data.fingerprint, split_anew.fingerprint)


def _which_is_better(runs: Sequence[Run], name: str, split: str) -> None:
    """For two whole runs on their own data: whether the difference is more than chance on these pictures."""
    if len(runs) == 2 and all(r.config and r.data_name == name for r in runs):
        second, first = groups(runs, single=True)
        (verdict,) = verdicts(first, [second], split=split)
        st.markdown(f":material/balance: {plain(verdict.sentence)}")


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


# --- the confusion matrix


def _matrix_tab(pairs: Sequence[tuple[Run, Mapping[str, Any]]], choice: Choice) -> None:
    run, report = pairs[0]
    left, right = st.columns(2, gap="medium")
    with left:
        _confusion(pairs)
    with right:
        for r, rep in pairs:
            per_class(rep, r.name if len(pairs) > 1 else "")
        worst(report)
    _cell_pictures(run, report, choice)


def _confusion(pairs: Sequence[tuple[Run, Mapping[str, Any]]]) -> None:
    """The confusion matrix in the view of the URL; a click on a cell chooses its pictures."""
    run, report = pairs[0]
    matrix, classes = np.array(report["confusion_matrix"]), report["classes"]
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.subheader("Confusion matrix", anchor=False)
        view = st.segmented_control(
            "Numbers",
            [*VIEWS, *([_DIFFERENCE] if len(pairs) > 1 else [])],
            default=VIEWS[0],
            required=True,
            key="view",
            bind="query-params",
            label_visibility="collapsed",
        )
    alt = f"Confusion matrix of {len(classes)} classes. {' '.join(confusion_sentences(matrix, classes))}"
    name = f"fer-lab-confusion-{run.id}"
    if view == _DIFFERENCE and len(pairs) > 1:
        theirs, names = np.array(pairs[1][1]["confusion_matrix"]), (run.name, pairs[1][0].name)
        figure = difference_heatmap(matrix, theirs, classes, names=names, dark=dark())
        values, in_counts = difference(matrix, theirs)
        unit = "pictures" if in_counts else "per cent of the true class"
        st.caption(f"{plain(names[0])} minus {plain(names[1])}, in {unit}: with a plus, the first says so more often.")
        alt, name = (
            f"Difference of two confusion matrices, {names[0]} minus {names[1]}.",
            f"{name}-minus-{pairs[1][0].id}",
        )
    else:
        key = ("confusion", matrix.tobytes(), tuple(classes), view, dark())
        figure = remembered(key, lambda: confusion_heatmap(matrix, classes, view=view, dark=dark()))
        values, in_counts = shares(matrix, view), view == VIEWS[0]
        if not in_counts:
            name += f"-{view.lower().replace(' ', '-')}"
        if len(pairs) > 1:
            st.caption(f"Of {plain(run.name)}.")
    event = chart(figure, key="confusion", alt=alt, on_select="rerun")
    _follow_click(event, classes)
    called = [f"called {c}" for c in classes]
    shown = values.astype(int) if in_counts else values
    rows = [
        {"true class": c, **dict(zip(called, row, strict=True))} for c, row in zip(classes, shown.tolist(), strict=True)
    ]
    csv_button(rows, name, key="confusion-csv")


def _follow_click(event: Any, classes: Sequence[str]) -> None:
    """Choose the cell that was clicked; once for each click, so that the list below can choose another.

    Where the tab was not open a moment ago, nothing was clicked yet, and the cell is the one in the URL. Another view of
    the matrix is another chart, in which nothing is clicked: the cell stays, and the list has its own way to none.
    """
    points = event.selection.points
    cell = (points[0]["y"], points[0]["x"]) if points else None
    if "cell" not in st.session_state:
        st.session_state["cell"] = st.query_params.get("cell")
    elif cell and cell != st.session_state.get("clicked-cell"):
        st.session_state["cell"] = _cell_name(classes, *map(int, cell))
    st.session_state["clicked-cell"] = cell


def _cell_name(classes: Sequence[str], true: int, predicted: int) -> str:
    called = "called right" if true == predicted else f"called {classes[predicted]}"
    return f"{classes[true]} {called}"


def _cell_pictures(run: Run, report: Mapping[str, Any], choice: Choice) -> None:
    """The pictures of a cell: chosen by a click on the matrix or from a list, kept in the URL."""
    matrix, classes = np.array(report["confusion_matrix"]), report["classes"]
    cells = {_cell_name(classes, i, j): (i, j) for i, j in _cells_in_order(matrix)}
    st.subheader("The pictures of a cell", anchor=False)
    if st.session_state.get("cell") not in cells:
        st.session_state["cell"] = None
    chosen = st.selectbox(
        "Click a cell of the matrix, or choose one here",
        list(cells),
        index=None,
        format_func=lambda c: f"{c} ({matrix[cells[c]]:,} pictures)",
        placeholder="no cell chosen",
        key="cell",
    )
    if not chosen:
        st.query_params.pop("cell", None)
        return
    keep_in_address("cell", chosen)
    saved = _saved_logits(run, choice)
    if saved:
        _gallery(in_cell(saved, *cells[chosen]), saved, run, report, choice, key="cell")


def _cells_in_order(matrix: np.ndarray) -> list[tuple[int, int]]:
    """The cells that hold pictures: mistakes first, the most frequent first, then what was called right."""
    filled = [(int(i), int(j)) for i, j in np.argwhere(matrix > 0)]
    return sorted(filled, key=lambda c: (c[0] == c[1], -matrix[c]))


def per_class(report: Mapping[str, Any], of: str = "") -> None:
    """Precision, recall, F1 and number of pictures of each class. of: the run's name where there are two."""
    st.subheader(f"Class by class{f': {plain(of)}' if of else ''}", anchor=False)
    rows = [
        {
            "Class": name,
            "Precision": None if (precision := precision_of(report, name)) is None else 100 * precision,
            **{head: 100 * row[head.lower()] for head in ("Recall", "F1")},
            "Pictures": row["n"],
        }
        for name, row in report["per_class"].items()
    ]
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
    table(rows, column_config=columns, height="content")


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


# --- mistakes, picture by picture


def _saved_logits(run: Run, choice: Choice) -> SavedLogits | None:
    """What the run said of each picture; says why where it is not known."""
    if choice.data != run.data_name:
        st.info(
            f"Single pictures are shown for the data set that a run was trained on: {plain(run.data_name)}.",
            icon=":material/info:",
        )
        return None
    try:
        return read_logits(run, choice.split)
    except RunError as error:
        st.info(plain(str(error)), icon=":material/info:")
        return None


def _mistakes_tab(pairs: Sequence[tuple[Run, Mapping[str, Any]]], choice: Choice) -> None:
    for run, report in pairs:
        saved = _saved_logits(run, choice)
        if saved is None:
            continue
        mistakes = confident_mistakes(saved)
        sure = sum(a.confidence >= 0.9 for a in mistakes)
        st.markdown(
            f"**{plain(run.name)} is wrong about {len(mistakes):,} of {len(saved.labels):,} pictures, and at least 90 % sure of itself in {sure:,} of them.** The surest come first; some of these labels are wrong themselves."
        )
        _gallery(mistakes, saved, run, report, choice, key=f"mistakes-{run.id}")


def _shared_tab(pairs: Sequence[tuple[Run, Mapping[str, Any]]], choice: Choice) -> None:
    run, report = pairs[0]
    runs = _with_same_pictures(run, choice)
    ids = [r.id for r in runs]
    if len(ids) < 2:
        st.info(
            "No other run has saved what it says of these pictures. Choose a second run above and evaluate it.",
            icon=":material/info:",
        )
        return
    names = {r.id: r.name for r in runs}
    default = [r.id for r, _ in pairs if r.id in ids] if len(pairs) > 1 else ids[:4]
    chosen = st.multiselect(
        "Runs",
        ids,
        default=default,
        format_func=names.__getitem__,
        key=f"shared-{'-'.join(default)}",
        max_selections=12,
    )
    found = [(r, s) for r in runs if r.id in chosen and (s := _saved_logits(r, choice))]
    if not found:
        return
    shared = wrong_for_all([s for _, s in found])
    who = "It is" if len(found) == 1 else f"All {len(found)} are"
    share = percent(len(shared.wrong) / shared.n, 1) if shared.n else "-"
    st.markdown(
        f"**{who} wrong about {len(shared.wrong):,} of {shared.n:,} shared pictures ({share}).** No choice among these networks helps with them: look whether their labels are right. The figures below each are those of {plain(found[0][0].name)}."
    )
    _gallery(answers(found[0][1], shared.wrong), found[0][1], found[0][0], report, choice, key="shared")


def _with_same_pictures(run: Run, choice: Choice) -> list[Run]:
    """The run, and the others that saved what they say of the same pictures, the best first."""
    file = f"logits-{choice.split}.npz"
    others = [r for r in seeds_last(by_merit(choice.listed)) if r.id != run.id and data_key(r) == data_key(run)]
    chosen = [r for r in choice.runs[1:] if data_key(r) == data_key(run)]
    listed = {r.id: r for r in (run, *chosen, *others)}
    return [r for r in listed.values() if (r.path / file).is_file()]


def _gallery(
    found: Sequence[Answer], saved: SavedLogits, run: Run, report: Mapping[str, Any], choice: Choice, *, key: str
) -> None:
    """The pictures of these answers with what the label and the network say; a table where the pictures are not here."""
    if not found:
        st.markdown("There are none.")
        return
    classes, most = report["classes"], _PICTURES_SHOWN[0]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(found) > most:
            most = st.segmented_control(
                f"Pictures shown, of {len(found):,}", _PICTURES_SHOWN, default=most, required=True, key=f"most-{key}"
            )
        csv_button(_answer_rows(found, saved, classes), f"fer-lab-{key}-{run.id}", key=f"csv-{key}")
    if saved.temperature != 1:
        st.caption(f"Probabilities after temperature scaling, at the run's {saved.temperature:.2f}.")
    images = _pictures(run, saved.hashes[[a.place for a in found[:most]]], choice)
    if images:
        st.html(_gallery_html(found[:most], saved, images, classes))
    else:
        per_cent = st.column_config.NumberColumn(format="percent")
        rows = [{k: v for k, v in row.items() if k != "picture"} for row in _answer_rows(found[:most], saved, classes)]
        table(rows, column_config={"confidence": per_cent, "probability of the label": per_cent})


def _pictures(run: Run, hashes: np.ndarray, choice: Choice) -> dict[int, np.ndarray]:
    """The pictures where the data set is on this machine; else empty, and it is said what to do."""
    if not dataset.dataset_path(choice.data).is_file():
        with st.container(border=True):
            st.markdown(
                f"The pictures themselves are in the data set **{plain(choice.data)}**, which is not prepared on this machine. What the network says of them is below; import the data set to see them."
            )
            st.page_link("pages/data.py", label="Import a data set", icon=":material/photo_library:")
        return {}
    data = load_dataset(choice.data).with_val_fraction(run.config.data.val_fraction if run.config else None)
    images = pictures(data, choice.split, hashes)
    if not images:
        st.info(
            f"The data set {plain(choice.data)} on this machine holds other pictures than those that this run was evaluated on.",
            icon=":material/info:",
        )
    return images


def _answer_rows(found: Sequence[Answer], saved: SavedLogits, classes: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "picture": f"{int(saved.hashes[a.place]):016x}",
            "label": classes[a.true],
            "said": classes[a.predicted],
            "confidence": a.confidence,
            "probability of the label": a.true_probability,
        }
        for a in found
    ]


def _gallery_html(
    found: Sequence[Answer], saved: SavedLogits, images: Mapping[int, np.ndarray], classes: Sequence[str]
) -> str:
    """A grid that wraps; the words below each picture say label and answer, so that nothing hangs on colour."""
    tiles = []
    for answer in found:
        image = images.get(int(saved.hashes[answer.place]))
        if image is None:
            continue
        true, said = html.escape(classes[answer.true]), html.escape(classes[answer.predicted])
        alt = f"A picture labelled {true}, called {said}"
        tiles.append(
            f'<figure><img src="data:image/png;base64,{_png(image)}" alt="{alt}">'
            f"<figcaption><b>{said}</b> {100 * answer.confidence:.1f} %<br>label: {true} {100 * answer.true_probability:.1f} %</figcaption></figure>"
        )
    return f'<div class="fer-gallery">{"".join(tiles)}</div>{_GALLERY_CSS}'


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


_GALLERY_CSS = """<style>
.fer-gallery {display: grid; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); gap: 0.9rem 0.7rem;}
.fer-gallery figure {margin: 0;}
.fer-gallery img {width: 100%; max-width: 150px; border-radius: 8px; display: block; background: #8888;}
.fer-gallery figcaption {font-size: 0.82rem; line-height: 1.35; margin-top: 0.25rem; font-variant-numeric: tabular-nums;}
</style>"""


# --- calibration


def _calibration_tab(pairs: Sequence[tuple[Run, Mapping[str, Any]]], choice: Choice) -> None:
    st.markdown(
        "Of the pictures that a network is 80 % sure of, it should get 80 % right. Below the dotted line it is too sure of itself. Temperature scaling divides its logits by one number, which is fitted on val; answers stay as they are."
    )
    for column, (run, _report) in zip(st.columns(len(pairs), gap="medium"), pairs, strict=True):
        with column:
            saved = _saved_logits(run, choice)
            if saved:
                _calibration(run, saved, choice.split)


def _calibration(run: Run, saved: SavedLogits, split: str) -> None:
    """The reliability diagram before and after. On val, what was fitted on one half of the pictures is judged on the other;
    any other split is judged with the run's temperature, as `metrics.calibration` has it."""
    before, fitted = metrics.softmax(saved.logits), metrics.fit_temperature(saved.logits, saved.labels)
    if split == "val":
        temperature, after = fitted, metrics.cross_fitted(saved.logits, saved.labels)
        how = "Each half of the pictures at the temperature that was fitted on the other half."
    else:
        temperature = run.temperature()
        after = metrics.softmax(saved.logits, temperature)
        how = f"At the temperature that was fitted on val; none is fitted on {split}."
    errors = [metrics.calibration_error(p, saved.labels) for p in (before, after)]
    bins = [metrics.reliability(p, saved.labels) for p in (before, after)]
    row = st.container(horizontal=True, gap="medium")
    row.metric(
        "Calibration error",
        percent(errors[0]),
        help="Expected calibration error over 15 bins: how far confidence and share of right answers are apart, on average.",
        width="content",
    )
    row.metric(
        "After temperature scaling",
        percent(errors[1]),
        f"{100 * (errors[1] - errors[0]):+.2f} points",
        delta_color="inverse",
        help=how,
        width="content",
    )
    row.metric(
        "Temperature",
        f"{temperature:.2f}",
        help="Fitted on val. Above 1: the network was too sure there.",
        width="content",
    )
    if temperature == 1:
        few = split == "val" or "calibration" in (run.report() or {})
        why = (
            f"has no temperature, so scaling changes nothing: its val has fewer than {metrics.FEWEST} pictures, too few to fit one."
            if few
            else f"has no temperature yet, so scaling changes nothing. Evaluating it on val fits one: `python -m fer evaluate {run.id}`"
        )
        st.caption(f":material/info: {plain(run.name)} {why}")
    words = "too sure of itself" if fitted > 1.05 else "not sure enough" if fitted < 0.95 else "about honest"
    if len(saved.labels) < metrics.FEWEST:
        words = "judged on too few pictures to say how honest it is"
    chart(
        reliability_diagram(*bins, dark=dark()),
        key=f"reliability-{run.id}",
        alt=f"Reliability diagram of {run.name}: it is {words}. Calibration error {percent(errors[0])} as trained, {percent(errors[1])} after temperature scaling.",
    )
    st.markdown(f"{plain(run.name)} is {words} on {split}.")
    kinds = ("as trained", "after temperature scaling")
    rows = [{"probabilities": kind, **b} for kind, found in zip(kinds, bins, strict=True) for b in found]
    csv_button(rows, f"fer-lab-reliability-{run.id}", key=f"reliability-csv-{run.id}")


# --- reports


def _runs(listed: Sequence[Run]) -> list[Run]:
    """The runs to choose from: with a report before those with weights only, photographs before drawn faces, best first."""
    reported, others = [], []
    for run in listed:
        # Of a run that can be evaluated again, the reports need not be read to list it.
        if run.has_reports and (run.has_weights or any(whole_report(report) for report in _all_reports(run))):
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
    """The report on the data that the run was trained on or, where there is none, on what that name stands for now."""
    report = run.kept_report(split, _fingerprint(run, name))
    if name == run.data_name and not whole_report(report):
        report = run.kept_report(split, _fingerprint_now(name))
    return report if whole_report(report) else None


def _all_reports(run: Run) -> list[Any]:
    return [report for by_split in run.reports.values() for report in by_split.values()]


def _newer(saved: dict[str, Any] | None, fresh: dict[str, Any] | None) -> dict[str, Any] | None:
    """The saved report unless this session made one of a later epoch, which a read-only store could not take."""
    if saved is None or fresh is None:
        return saved or fresh
    return fresh if fresh["epoch"] > saved.get("epoch", 0) else saved


def _is_stale(run: Run, report: Mapping[str, Any]) -> bool:
    """Whether the run has got a better epoch since; says so where it has."""
    if not run.best or not run.is_outdated(report):
        return False
    st.caption(
        f":material/update: This report is of epoch {report['epoch']}; the best epoch is now {run.best['epoch']}."
    )
    return True


def _evaluate_button(run: Run, label: str) -> bool:
    if not run.has_weights:
        why = plain(run.missing_members()) or "The run has no weights, so only its saved reports can be shown."
        st.caption(f":material/info: {why}")
        return False
    return st.button(label, type="primary", icon=":material/play_arrow:", key=f"evaluate-{run.id}")


def _fresh(store: RunStore, run: Run, name: str, split: str) -> dict[str, Any] | None:
    """The report that this session made, with `TTA` behind the split where views were averaged."""
    return st.session_state.get(_FRESH, {}).get((str(store.root), run.id, name, split))


def _evaluate(store: RunStore, run: Run, name: str, split: str, *, tta: bool = False) -> None:
    """Evaluate, keep the report for this session too, and run the page anew, so that everything on it sees it."""
    with st.spinner(f"Evaluating on {plain(name)}, {split}{', ten views of each picture' if tta else ''}"):
        from fer.evaluate import evaluate_run

        report = evaluate_run(store, run.id, name, split, tta=tta)
    key = (str(store.root), run.id, name, split + TTA * tta)
    st.session_state[_FRESH] = {**st.session_state.get(_FRESH, {}), key: report}
    st.rerun()


# --- data sets


def _datasets(run: Run) -> list[str]:
    """The run's own data set, prepared here or not, then the prepared ones with the same classes."""
    own = run.data_name
    classes = _classes(run)
    return [own, *(name for name in dataset.available() if name != own and _classes_of(name) == classes)]


def _classes(run: Run) -> tuple[str, ...]:
    for report in _all_reports(run):
        if whole_report(report):
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
    """The fingerprint that a report on this data set is kept under, unless the data have changed since the training."""
    return run.fingerprint if name == run.data_name else _fingerprint_now(name)


def _fingerprint_now(name: str) -> str:
    """The fingerprint of the data set as it is prepared here; '-' where it was never made."""
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
