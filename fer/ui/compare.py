"""The parts of the Compare page: choosing runs, the answer, the curves, the table, the settings that differ.

The first half works on runs and knows no Streamlit state; the second half draws.
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable, Sequence

import pandas as pd
import streamlit as st

from fer.diagnosis import twins
from fer.errors import RunError
from fer.experiments import by_data, data_label, figures, groups, labels, settings_rows
from fer.plots import curves
from fer.recipes import STUDY
from fer.runs import ACTIVE, Run, RunStore
from fer.ui.frame import dark, plain
from fer.ui.loaders import drawn, shown
from fer.ui.parts import STATE_SIGNS, chart, data_notes, empty, harmless, percent

MAX_RUNS = 12
_DEFAULT_RUNS = 4
_REFRESH_SECONDS = 2.5
_PICKER, _URL_SEEN, _PICKED = "compare-runs", "compare-url-seen", "compare-picked"
_SIDE_BY_SIDE = "Side by side"
_METRICS = {"Loss and top-1": ("loss", "top1"), "Macro F1": ("macro_f1",), "Learning rate": ("lr",)}
_SYMBOL_SIGNS = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "cross": "✚",
    "x": "✖",
    "triangle-up": "▲",
    "star": "★",
    "hexagon": "⬢",
}


# --- what is true of the runs --------------------------------------------------------------------------------------


def default_runs(runs: Iterable[Run]) -> list[Run]:
    """What the page opens on: the study's four, else the newest finished runs, else the newest of any state."""
    usable = [r for r in runs if r.state != "broken"]
    by_id = {r.id: r for r in usable}
    study = [by_id[i] for i in STUDY if i in by_id]
    return study or [r for r in usable if r.state == "finished"][:_DEFAULT_RUNS] or usable[:_DEFAULT_RUNS]


def summary(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run, in the units of the files: fractions 0 to 1, seconds, natural log; empty cells where nothing is known."""
    rows = [figures(group) for group in groups(runs, single=True)]
    seeds = [r.config.seed for r in runs if r.config]
    return pd.DataFrame([{"run": row["label"], **row, "seed": seed} for row, seed in zip(rows, seeds, strict=True)])


def settings_table(runs: Sequence[Run], *, everything: bool) -> pd.DataFrame:
    """One row a setting, one column `run:<id>` a run, all as text; those that differ, or all with a sign at those."""
    table = pd.DataFrame(settings_rows(runs, everything=everything))
    return table if everything or table.empty else table.drop(columns="differs")


# --- choosing ------------------------------------------------------------------------------------------------------


def choose(everything: Sequence[Run]) -> list[Run]:
    """The chosen runs, kept in the URL as `?run=a&run=b`; says what it left out, and what to do where there is none.

    The URL wins when it was opened or changed; the picker wins when it was used, whatever the URL says at that moment.
    """
    known = {r.id: r for r in everything}
    asked = list(dict.fromkeys(st.query_params.get_all("run")))
    _left_out(asked, known)
    usable = {i: r for i, r in known.items() if r.state != "broken"}
    picked = st.session_state.pop(_PICKED, False)
    if _PICKER not in st.session_state or (asked != st.session_state.get(_URL_SEEN) and not picked):
        wanted = [i for i in asked if i in usable] or [r.id for r in default_runs(shown(everything))]
        st.session_state[_PICKER] = wanted[:MAX_RUNS]
    st.session_state[_PICKER] = [i for i in st.session_state[_PICKER] if i in usable]
    options = [i for i, r in usable.items() if not r.notes.archived or i in st.session_state[_PICKER]]
    if not options:
        empty(
            "**There is no run to compare yet.** Train the study's four experiments, or one network of your own; curves appear here from the first epoch on.",
            "pages/train.py",
            "Train a network",
            ":material/play_circle:",
        )
        return []
    chosen = _picker([usable[i] for i in options])
    if picked:
        st.query_params["run"] = chosen
        asked = chosen
    st.session_state[_URL_SEEN] = asked
    if not chosen:
        st.info("Choose one or more runs above to see their curves side by side.", icon=":material/arrow_upward:")
    return [usable[i] for i in chosen]


def _picker(runs: Sequence[Run]) -> list[str]:
    def mark_picked() -> None:
        st.session_state[_PICKED] = True

    names = dict(zip((r.id for r in runs), labels(runs), strict=True))
    states = {r.id: "" if r.state == "finished" else f" ({r.state})" for r in runs}
    return st.multiselect(
        "Runs",
        [r.id for r in runs],
        key=_PICKER,
        format_func=lambda i: names[i] + states[i],
        max_selections=MAX_RUNS,
        on_change=mark_picked,
        help=f"Up to {MAX_RUNS} runs. The address of this page names them: send it, and others see the same runs.",
    )


def _left_out(asked: Sequence[str], known: dict[str, Run]) -> None:
    """Name what the address asks for and the page cannot show."""
    missing = [i for i in asked if i not in known]
    if missing:
        st.warning(
            f"Left out, since there is no such run: {plain(', '.join(curves.short(i, 80) for i in missing))}. It may have been deleted.",
            icon=":material/search_off:",
        )
    for run in (known[i] for i in asked if i in known and known[i].state == "broken"):
        st.warning(
            f"Left out, since its folder is damaged: {plain(run.id)} ({plain('; '.join(run.problems))}).",
            icon=":material/broken_image:",
        )
    usable = [i for i in asked if i in known and known[i].state != "broken"]
    if len(usable) > MAX_RUNS:
        st.warning(
            f"Left out, since {MAX_RUNS} runs are the most that one figure can show: {plain(', '.join(usable[MAX_RUNS:]))}.",
            icon=":material/filter_list:",
        )


# --- drawing -------------------------------------------------------------------------------------------------------


def show(store: RunStore, runs: Sequence[Run]) -> None:
    """Everything below the picker; drawn again every few seconds while one of the runs trains.

    A chart whose data changed is a new one to the browser, which forgets its zoom whatever the figure asks for; hence
    the switch. While no epoch ends nothing is drawn anew and the zoom stays.
    """
    live = any(r.state in ACTIVE for r in runs)
    follow = live and st.toggle(
        "Follow live",
        value=True,
        key="follow",
        help="Each epoch that ends redraws the curves and undoes a zoom. Switch this off to look closely.",
    )
    st.fragment(_board, run_every=_REFRESH_SECONDS if follow else None)(store, tuple(r.id for r in runs), bool(follow))


def _board(store: RunStore, run_ids: Sequence[str], following: bool) -> None:
    runs = []
    for run_id in run_ids:
        with contextlib.suppress(RunError):  # deleted since it was chosen
            runs.append(store.get(run_id))
    if following and not any(r.state in ACTIVE for r in runs):
        st.rerun()  # the last one has ended: no more refreshing
    if any(r.metrics for r in runs):
        _answer(runs)
        _warnings(runs)
        _curves(runs)
        data_notes(runs, remarks=True)
        _table(runs)
    else:
        st.info(
            "None of these runs has finished an epoch yet. Curves and figures appear with the first one.",
            icon=":material/hourglass_top:",
        )
        _states(runs)
    _settings(runs)


def _answer(runs: Sequence[Run]) -> None:
    """Which run is best, for each group that can be compared."""
    groups = by_data(r for r in runs if r.best)
    for group in groups:
        best, *others = sorted(group, key=lambda r: r.best["val_top1"] if r.best else 0.0, reverse=True)
        figure = f"{percent(best.best['val_top1'] if best.best else None)} val top-1"
        where = f"On {plain(data_label(best))}: " if len(groups) > 1 else ""
        verdict = f"is best: {figure}" if others else f"reaches {figure}"
        st.markdown(f"#### :material/trophy: {where}{plain(curves.short(best.name, 60))} {verdict}")
        st.caption(_runner_up(best, others))


def _runner_up(best: Run, others: Sequence[Run]) -> str:
    assert best.best
    epoch = f"Reached in epoch {best.best['epoch']}."
    if not others or not others[0].best:
        return epoch
    behind = 100 * (best.best["val_top1"] - others[0].best["val_top1"])
    second = plain(curves.short(others[0].name, 60))
    apart = f"{second} has exactly as many right" if behind == 0 else f"Next: {second}, {behind:.2f} points behind"
    return f"{epoch} {apart}. Single runs cannot tell a small difference from chance."


def _warnings(runs: Sequence[Run]) -> None:
    """What a reader must know before believing the curves."""
    if len(by_data(runs)) > 1:
        groups = "; ".join(f"{plain(', '.join(r.name for r in g))} on {plain(data_label(g[0]))}" for g in by_data(runs))
        st.warning(
            f"**Different data: these figures cannot be compared with each other.** {groups}.",
            icon=":material/warning:",
        )
    for pair in twins(runs):
        a, b, n = plain(pair.first.name), plain(pair.second.name), len(pair.first.metrics)
        if pair.expected:
            st.info(
                f"{a} and {b} have identical figures in all {n} epochs: their learning rates were the same, so it was the same training.",
                icon=":material/info:",
            )
        else:
            st.warning(
                f"**{a} and {b} have identical figures to the last digit in all {n} epochs, though their settings differ.** One of them did not run what its name says.",
                icon=":material/warning:",
            )
    _states(runs)


def _states(runs: Sequence[Run]) -> None:
    """Runs that still train, and runs that ended early."""
    active = [f"{plain(r.name)} ({r.state}, {len(r.metrics)} of {r.epochs} epochs)" for r in runs if r.state in ACTIVE]
    if active:
        st.caption(f":material/sync: Still training, figures so far: {', '.join(active)}.")
    early = [
        f"{plain(r.name)} ({r.state} after {len(r.metrics)} of {r.epochs} epochs)"
        for r in runs
        if r.state in ("stopped", "failed", "lost")
    ]
    if early:
        st.caption(f":material/pause_circle: Not trained to the end: {', '.join(early)}.")
    for run in runs:
        if run.problems:
            st.caption(f":material/broken_image: {plain(run.name)}: {plain('; '.join(run.problems))}.")


def _curves(runs: Sequence[Run]) -> None:
    with st.container(horizontal=True):
        what = st.segmented_control(
            "Curves",
            list(_METRICS),
            default="Loss and top-1",
            key="curves",
            bind="query-params",
            required=True,
            label_visibility="collapsed",
        )
        view = st.segmented_control(
            "Layout",
            ["Overlaid", _SIDE_BY_SIDE],
            default="Overlaid",
            key="view",
            bind="query-params",
            required=True,
            label_visibility="collapsed",
        )
    metrics = _METRICS[what or "Loss and top-1"]
    if view == _SIDE_BY_SIDE:
        _side_by_side(runs, metrics)
    else:
        _overlaid(runs, metrics)


def _overlaid(runs: Sequence[Run], metrics: Sequence[str]) -> None:
    _legend(runs, metrics)
    for column, metric in zip(st.columns(len(metrics)), metrics, strict=True):
        with column:
            figure = drawn(curves.metric_curves, runs, metric, dark=dark(), legend=False)
            chart(figure, key=f"curves-{metric}", alt=curves.in_words(runs, metric))


def _side_by_side(runs: Sequence[Run], metrics: Sequence[str]) -> None:
    figures = drawn(curves.small_multiples, runs, tuple(metrics), dark=dark())
    panels = [(r, m, f) for r, m, f in zip(runs, curves.marks(runs), figures, strict=True) if r.metrics]
    st.html(f'<div class="fer-legend">{_key(metrics)}</div>{_LEGEND_CSS}')
    a_row = {1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3}.get(len(panels), 4)
    for start in range(0, len(panels), a_row):
        for column, (run, mark, figure) in zip(st.columns(a_row), panels[start : start + a_row], strict=False):
            with column:
                st.html(f'<div class="fer-legend">{_legend_entry(run, mark)}</div>{_LEGEND_CSS}')
                chart(
                    figure,
                    key=f"small-{'-'.join(metrics)}-{run.id}",
                    alt=" ".join(curves.in_words([run], m) for m in metrics),
                )


def _legend(runs: Sequence[Run], metrics: Sequence[str]) -> None:
    """One legend for all charts, above them and able to wrap; names are cut by the browser and whole in the tooltip."""
    entries = [_legend_entry(r, m) for r, m in zip(runs, curves.marks(runs), strict=True) if r.metrics]
    st.html(f'<div class="fer-legend">{"".join(entries)}{_key(metrics)}</div>{_LEGEND_CSS}')


def _key(metrics: Sequence[str]) -> str:
    """What is solid, dashed and starred."""
    drawn = [curves.METRICS[m] for m in metrics]
    lines = (
        '<span><i class="fer-line"></i>val</span><span><i class="fer-line fer-dash"></i>train</span>'
        if any(m.train for m in drawn)
        else ""
    )
    star = "<span>☆ best epoch</span>" if any(m.starred for m in drawn) else ""
    return f'<span class="fer-key">{lines}{star}</span>'


def _legend_entry(run: Run, mark: curves.Mark) -> str:
    name, best = html.escape(run.name, quote=True), run.best
    figure = f"<b>{percent(best['val_top1'])}</b> in epoch {best['epoch']}" if best else ""
    sign = _SYMBOL_SIGNS[mark.symbol]
    return f'<span class="fer-run" title="{name}"><i style="color:{mark.colour}">{sign}</i><span class="fer-name">{name}</span>{figure}</span>'


_LEGEND_CSS = """<style>
.fer-legend {display: flex; flex-wrap: wrap; gap: 0.3rem 1.3rem; font-size: 0.92rem; line-height: 1.5;}
.fer-legend span {display: inline-flex; align-items: center; gap: 0.4rem; white-space: nowrap; max-width: 100%;}
.fer-legend b {font-variant-numeric: tabular-nums; font-weight: 600;}
.fer-legend i {font-style: normal; font-size: 1.1rem;}
.fer-legend .fer-name {display: block; overflow: hidden; text-overflow: ellipsis; max-width: 15rem;}
.fer-legend .fer-key {opacity: 0.85; gap: 1rem;}
.fer-legend .fer-line {display: inline-block; width: 1.7rem; border-top: 2.4px solid currentColor;}
.fer-legend .fer-dash {border-top: 2px dashed currentColor;}
</style>"""


def _table(runs: Sequence[Run]) -> None:
    raw = summary(runs)
    st.subheader("Figures", anchor=False)
    number = st.column_config.NumberColumn
    columns = {
        "run": st.column_config.TextColumn("run", pinned=True, width=150),
        "best_val_top1": number(
            "best val top-1, %",
            format="%.2f",
            help="The highest share of validation pictures classified right, over all epochs.",
        ),
        "best_epoch": number("in epoch", format="%d"),
        "last_val_top1": number("last val top-1, %", format="%.2f", help="After the last epoch that ended."),
        "train_top1_at_best": number(
            "train top-1 there, %", format="%.2f", help="Running mean over the training pictures in the best epoch."
        ),
        "gap_at_best": number(
            "gap there, points",
            format="%.2f",
            help="Train minus val top-1 in the best epoch; a large gap says that the network overfits.",
        ),
        "num_params": number("parameters", format="localized"),
        "multiply_adds": number("multiply-adds, millions", format="%.1f", help="For one picture, forward."),
        "epoch_seconds_median": number(
            "s an epoch",
            format="%.1f",
            help="Median, training and validation together, on the machine that trained it.",
        ),
        "lowest_val_loss": number(
            "lowest val loss", format="%.3f", help="Cross entropy, natural log, mean over pictures."
        ),
        "last_val_loss": number("last val loss", format="%.3f"),
        "val_macro_f1_at_best": number(
            "macro F1 there, %", format="%.2f", help="Mean of the seven classes' F1 on val in the best epoch."
        ),
        "epochs_done": number("epochs", format="%d"),
        "epochs_asked": number("of", format="%d"),
        "data": "data",
        "seed": number("seed", format="%d"),
        "state": "state",
    }
    st.dataframe(
        _on_screen(raw),
        column_config=columns,
        column_order=list(columns),
        hide_index=True,
        width="stretch",
        key="figures",
    )
    st.download_button(
        "Download as CSV",
        raw.map(harmless).to_csv(index=False),
        "fer-lab-comparison.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        key="csv",
        help="The same figures at full precision; fractions from 0 to 1.",
    )


def _on_screen(raw: pd.DataFrame) -> pd.DataFrame:
    """Per cent for fractions, millions for multiply-adds, a sign before the state."""
    table = raw.copy()
    for name in ("best_val_top1", "last_val_top1", "train_top1_at_best", "gap_at_best", "val_macro_f1_at_best"):
        table[name] = 100 * table[name].astype(float)
    table["multiply_adds"] = table["multiply_adds"].astype(float) / 1e6
    table["state"] = [f"{STATE_SIGNS[s]} {s}" for s in table["state"]]
    return table


def _settings(runs: Sequence[Run]) -> None:
    st.subheader("Settings that differ", anchor=False)
    everything = st.toggle("Show all settings", key="all-settings", bind="query-params")
    table = settings_table(runs, everything=bool(everything))
    if table.empty:
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
    named = zip(runs, labels(runs), strict=True)
    columns |= {f"run:{r.id}": st.column_config.TextColumn(curves.short(label)) for r, label in named}
    st.dataframe(table, column_config=columns, hide_index=True, width="stretch", key="settings")
