"""The Compare page: choosing runs, which change helped and whether that is real, the curves, and what they say.

The figures, the settings and the way to other runs are in `fer.ui.compare_tables`, the curves in `fer.ui.compare_curves`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from fer.diagnosis import Finding, diagnose, diagnose_together
from fer.errors import RunError
from fer.experiments import Group, best_top1, data_label, groups, labels, several
from fer.plots.comparison import differences, differences_in_words, numbers
from fer.plots.curves import short
from fer.recipes import STUDY
from fer.runs import ACTIVE, Run, RunStore
from fer.ui import compare_curves, compare_tables
from fer.ui.frame import dark, plain
from fer.ui.loaders import remembered, run_key, shown
from fer.ui.parts import chart, csv_button, data_notes, empty, percent
from fer.verdicts import MIN_SEEDS, Verdict, correction, verdicts

MAX_RUNS = 30
_DEFAULT_RUNS = 4
_REFRESH_SECONDS = 2.5
_PICKER, _URL_SEEN, _PICKED = "compare-runs", "compare-url-seen", "compare-picked"
_LAST = "compare-last-address"
# All that the address of this page says; whatever else stands in it came along from another page.
_PARAMETERS = (
    "run", "baseline", "rows", "curves", "view", "x", "scale", "smooth", "band", "singles", "part", "filter",
    "all-settings", "archived-too", "find",
)  # fmt: skip
_BASELINE, _BASELINE_PICKED, _FILLED_IN = "compare-baseline", "compare-baseline-picked", "compare-baseline-filled-in"
_GROUPED, _SINGLE = "Seeds together", "Single runs"
_FEW = 4  # verdicts above the curves; the others are a tab away
_PARTS = ("Figures", "Is it real?", "What the curves say", "Settings", "Other runs")


# --- what is true of the runs --------------------------------------------------------------------------------------


def default_runs(runs: Iterable[Run]) -> list[Run]:
    """What the page opens on: the study's four with their seeds, else the newest finished runs, else the newest of any state."""
    usable = [r for r in runs if r.state != "broken"]
    by_id = {r.id: r for r in usable}
    study = [run for i in STUDY if i in by_id for run in _seeds_of(by_id[i], usable)]
    return study or [r for r in usable if r.state == "finished"][:_DEFAULT_RUNS] or usable[:_DEFAULT_RUNS]


def _seeds_of(run: Run, runs: Iterable[Run]) -> list[Run]:
    """The run, then the shipped ones that differ from it by seed only, by their id."""
    same = [r for r in runs if r.shipped and r.id != run.id and r.recipe == run.recipe]
    found = next(g.runs for g in groups([run, *same]) if run in g.runs)
    return [run, *sorted((r for r in found if r.id != run.id), key=lambda r: r.id)]


def default_baseline(found: Sequence[Group]) -> Group:
    """What the others are measured against unless the reader says: the recipe `baseline`, else the first."""
    return next((g for g in found if g.recipe == "baseline"), found[0])


# --- choosing ------------------------------------------------------------------------------------------------------


def choose(everything: Sequence[Run]) -> list[Run]:
    """The chosen runs, kept in the URL as `?run=a&run=b`; says what it left out, and what to do where there is none.

    The URL wins when it was opened or changed; the picker wins when it was used, whatever the URL says at that moment.
    A baseline that the URL names is among the runs, as in `fer compare`. Coming back from another page by a URL that names no
    run brings back what was shown last.
    """
    known = {r.id: r for r in everything}
    has_entered = _PICKER not in st.session_state  # a widget's state goes when its page is left
    if has_entered:
        _come_back(known, _PARAMETERS)
    elif st.session_state.get(_URL_SEEN) and not st.session_state.get(
        _PICKED
    ):  # by the menu on the page itself, or Back
        _come_back(known, ("run", "baseline"))
    asked, baseline = list(dict.fromkeys(st.query_params.get_all("run"))), st.query_params.get("baseline", "")
    _left_out(asked, baseline, known)
    usable = {i: r for i, r in known.items() if r.state != "broken"}
    baseline = baseline if baseline in usable else ""
    picked = st.session_state.pop(_PICKED, False)
    changed = asked != st.session_state.get(_URL_SEEN) or baseline not in ("", *st.session_state.get(_PICKER, ()))
    if _PICKER not in st.session_state or (changed and not picked):
        wanted = [i for i in asked if i in usable] or [r.id for r in default_runs(shown(everything))]
        st.session_state[_PICKER] = _most(wanted, baseline)
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
    chosen = [usable[i] for i in _picker([usable[i] for i in options])]
    st.session_state[_URL_SEEN] = _to_address(chosen, asked, usable, picked=picked)
    if not chosen:
        st.info("Choose one or more runs above to see their curves side by side.", icon=":material/arrow_upward:")
    return chosen


def _come_back(known: Mapping[str, Run], keys: Sequence[str]) -> None:
    """Put what this session last saw here back into an address without runs, and take out of it what another page left.

    known: the store's runs; those that were deleted since do not come back. keys: what is put back. Where the address changes, the page is run again,
    so that every widget begins from it.
    """
    here = list(st.query_params)
    last = {} if "run" in here else st.session_state.get(_LAST, {})
    last = {key: [v for v in values if v in known or key not in ("run", "baseline")] for key, values in last.items()}
    new = {key: values for key, values in last.items() if values and key in keys and key not in here}
    new |= {key: [] for key in here if key not in _PARAMETERS}
    if new:
        st.query_params.update(new)
        st.rerun()


def _most(ids: Sequence[str], baseline: str) -> list[str]:
    """As many of these runs as the page can show, the baseline among them where it is not ''."""
    kept = list(ids[:MAX_RUNS])
    return kept if baseline in ("", *kept) else [*kept[: MAX_RUNS - 1], baseline]


def _to_address(chosen: Sequence[Run], asked: list[str], usable: Mapping[str, Run], *, picked: bool) -> list[str]:
    """Write what is shown into the address, in one step of the browser's history; returns the runs that it names then.

    What it names and the page left out stays in it until the reader chooses others. A baseline that was filled in here
    gives way to the one that suits the reader's choice of runs.
    """
    ids, baseline, new = [r.id for r in chosen], st.query_params.get("baseline", ""), {}
    if picked or (set(asked) <= set(ids) and ids != asked):
        new["run"] = ids
    gives_way = picked and baseline == st.session_state.get(_FILLED_IN)
    if not baseline or gives_way or (baseline in usable and baseline not in ids):
        found = groups(chosen)
        new["baseline"] = [default_baseline(found).key] if len(found) > 1 else []
        st.session_state[_FILLED_IN] = "".join(new["baseline"])
    if any(st.query_params.get_all(key) != values for key, values in new.items()):
        st.query_params.update(new)
    return new.get("run", asked)


def _picker(runs: Sequence[Run]) -> list[str]:
    def mark_picked() -> None:
        st.session_state[_PICKED] = True

    names = dict(zip((r.id for r in runs), labels(runs), strict=True))
    marked = {r.id: [r.state] * (r.state != "finished") + ["archived"] * r.notes.archived for r in runs}
    states = {i: f" ({', '.join(words)})" if words else "" for i, words in marked.items()}
    return st.multiselect(
        "Runs",
        [r.id for r in runs],
        key=_PICKER,
        format_func=lambda i: names[i] + states[i],
        max_selections=MAX_RUNS,
        on_change=mark_picked,
        help=f"Up to {MAX_RUNS} runs. The address of this page names them: send it, and others see the same runs.",
    )


def _left_out(asked: Sequence[str], baseline: str, known: Mapping[str, Run]) -> None:
    """Name what the address asks for and the page cannot show."""
    missing = [i for i in asked if i not in known]
    if missing:
        st.warning(
            f"Left out, since there is no such run: {plain(', '.join(short(i, 80) for i in missing))}. It may have been deleted.",
            icon=":material/search_off:",
        )
    if baseline and baseline not in (*known, *missing):
        st.warning(
            f"The baseline that the address names is left out, since there is no such run: {plain(short(baseline, 80))}. It may have been deleted.",
            icon=":material/search_off:",
        )
    for run in (known[i] for i in dict.fromkeys((*asked, baseline)) if i in known and known[i].state == "broken"):
        st.warning(
            f"Left out, since its folder is damaged: {plain(run.id)} ({plain('; '.join(run.problems))}).",
            icon=":material/broken_image:",
        )
    usable = [i for i in asked if i in known and known[i].state != "broken"]
    kept = _most(usable, baseline if baseline in known and known[baseline].state != "broken" else "")
    if set(usable) - set(kept):
        st.warning(
            f"Left out, since {MAX_RUNS} runs are the most that one page can show: {plain(', '.join(i for i in usable if i not in kept))}.",
            icon=":material/filter_list:",
        )


# --- drawing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What the page shows: runs, their groups (one run each where the reader wants single runs), and the baseline."""

    runs: tuple[Run, ...]
    groups: tuple[Group, ...]
    baseline: Group

    @property
    def best_first(self) -> list[tuple[Group, float]]:
        """The groups that have a figure on the baseline's data, with their best val top-1, the highest first."""
        tops = [(g, best_top1(g)) for g in self.groups]
        return sorted(((g, top) for g, top in tops if top is not None), key=lambda pair: -pair[1])

    @property
    def key(self) -> Hashable:
        """What verdicts and findings depend on."""
        saved = tuple(_stamp(r) for r in self.runs)
        return self.baseline.key, tuple((g.label, tuple(map(run_key, g.runs))) for g in self.groups), saved


def _stamp(run: Run) -> tuple[float, ...]:
    """When the run's predictions and reports were written."""
    found = []
    for name in ("logits-val.npz", "report.json", "report-local.json"):
        try:
            found.append((run.path / name).stat().st_mtime)
        except OSError:
            found.append(0.0)
    return tuple(found)


def show(store: RunStore, runs: Sequence[Run], everything: Sequence[Run]) -> None:
    """Everything below the picker; looked at again every few seconds while one of the runs trains."""
    live = any(r.state in ACTIVE for r in runs)
    follow = live and st.toggle(
        "Follow live", value=True, key="follow", help="New epochs move the curves; a zoom stays. Off: stand still."
    )
    ids = tuple(r.id for r in runs)
    st.fragment(_board, run_every=_REFRESH_SECONDS if follow else None)(store, ids, bool(follow), everything)


def _board(store: RunStore, run_ids: Sequence[str], following: bool, everything: Sequence[Run]) -> None:
    runs = []
    for run_id in run_ids:
        with contextlib.suppress(RunError):  # deleted since it was chosen
            runs.append(store.get(run_id))
    if following and not any(r.state in ACTIVE for r in runs):
        st.rerun()  # the last one has ended: no more refreshing
    runs = [r for r in runs if r.config]
    if not runs:
        return
    comparison = _arranged(runs)
    if any(r.metrics for r in runs):
        _answer(comparison)
        _warnings(comparison)
        compare_curves.show(comparison.groups, live=following)
        data_notes(runs, remarks=True)
    else:
        st.info(
            "None of these runs has finished an epoch yet. Curves and figures appear with the first one.",
            icon=":material/hourglass_top:",
        )
        _states(runs)
    for tab, part in zip(st.tabs(list(_PARTS), key="part", bind="query-params"), _PARTS, strict=True):
        if tab.open:
            with tab:
                _part(part, store, comparison, everything)
    st.session_state[_LAST] = {key: st.query_params.get_all(key) for key in st.query_params}


def _part(name: str, store: RunStore, comparison: Comparison, everything: Sequence[Run]) -> None:
    if name == "Figures":
        compare_tables.figures_table(store, comparison.groups, comparison.baseline)
    elif name == "Is it real?":
        _all_verdicts(comparison)
    elif name == "What the curves say":
        _findings(comparison.runs)
    elif name == "Settings":
        compare_tables.settings(comparison.groups)
    else:
        compare_tables.other_runs(everything, MAX_RUNS)


def _arranged(runs: Sequence[Run]) -> Comparison:
    """The runs as the reader wants them: seeds together or each by itself, against which baseline; both in the URL."""
    together = groups(runs)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        rows = _GROUPED
        if any(len(g.runs) > 1 for g in together):
            rows = st.segmented_control(
                "Rows",
                [_GROUPED, _SINGLE],
                default=_GROUPED,
                required=True,
                key="rows",
                bind="query-params",
                help="Runs that differ by their seed only are one experiment: its mean and band.",
            )
        found = groups(runs, single=rows == _SINGLE)
        baseline = _pick_baseline(found, [r.id for r in runs]) if len(found) > 1 else found[0]
        _report_button(runs, baseline, grouped=rows == _GROUPED)
    return Comparison(tuple(runs), tuple(found), baseline)


def _report_button(runs: Sequence[Run], baseline: Group, *, grouped: bool) -> None:
    """The whole comparison as one HTML file, made when it is asked for."""

    def content() -> str:
        from fer import report  # its templates are not needed for the page

        return report.as_html(report.compare(runs, baseline.runs[0], grouped=grouped))

    st.download_button(
        "HTML report",
        content,
        "fer-lab-report.html",
        "text/html",
        icon=":material/description:",
        on_click="ignore",
        key="report",
        help="One file with data, networks, set-up, curves, findings and verdicts, that opens without a network and prints well. The same as `python -m fer compare` in the project's folder, after `source .venv/bin/activate`.",
    )


def _pick_baseline(found: Sequence[Group], run_ids: Sequence[str]) -> Group:
    """The baseline, kept in the URL as the id of one of its runs; the URL wins unless this was used just now."""

    def mark_picked() -> None:
        st.session_state[_BASELINE_PICKED] = True

    wanted = st.query_params.get("baseline")
    by_key = {g.key: g for g in found}
    picked = st.session_state.pop(_BASELINE_PICKED, False) and st.session_state[_BASELINE] in by_key
    if not picked:
        now = next((g for g in found if wanted in {r.id for r in g.runs}), None) or default_baseline(found)
        st.session_state[_BASELINE] = now.key
    chosen = st.selectbox(
        "Baseline",
        list(by_key),
        format_func=lambda key: by_key[key].label,
        key=_BASELINE,
        on_change=mark_picked,
        width=340,
        help="Differences and verdicts are against this one. It is part of the address.",
    )
    if picked:
        st.session_state.pop(_FILLED_IN, None)
        st.query_params.update(run=list(run_ids), baseline=chosen)
    return by_key[chosen]


# --- the answer


def _answer(comparison: Comparison) -> None:
    """Which reaches the highest val top-1, for each data set, and whether the differences to the baseline are more than noise."""
    ranked = comparison.best_first
    parts: dict[Hashable, list[tuple[Group, float]]] = {}
    for group, top in ranked:
        parts.setdefault(group.data_key, []).append((group, top))
    for part in parts.values():
        (best, top), *others = part
        seeds = f" ({several(best)})" if several(best) else ""
        where = f"On {plain(data_label(best.runs[0]))}: " if len(parts) > 1 else ""
        what = f"the highest val top-1: {percent(top)}" if others else f"{percent(top)} val top-1"
        st.markdown(f"#### :material/trophy: {where}{plain(short(best.label, 60))} reaches {what}{seeds}")
        st.caption(_runner_up(best, top, others))
    found = _verdicts(comparison)
    told = [v for v in found if v.kind != "refused"]
    with st.container(gap="xsmall"):
        for verdict in sorted(told, key=lambda v: not v.is_real)[:_FEW]:
            _say(verdict)
        if correction(found):
            st.caption(correction(found))
    refused = [v for v in found if v.kind == "refused"]
    if len(told) > _FEW:
        st.caption(f"{len(told) - _FEW} more under *Is it real?* below.")
    if len(refused) == 1:
        _say(refused[0])
    elif refused:
        st.caption(
            f":material/block: No verdict on {len(refused)} of {len(found)}, since data differ or predictions are missing; the reasons are under *Is it real?* below."
        )


def _verdicts(comparison: Comparison) -> list[Verdict]:
    return remembered(("verdicts", comparison.key), lambda: verdicts(comparison.baseline, comparison.groups))


def _say(verdict: Verdict) -> None:
    sign = {"refused": ":material/block:"}.get(
        verdict.kind, ":material/check_circle:" if verdict.is_real else ":material/drag_handle:"
    )
    st.markdown(f"{sign} {plain(verdict.sentence)}")


def _runner_up(best: Group, top: float, others: Sequence[tuple[Group, float]]) -> str:
    first = best.measured[0].best
    epoch = f"Reached in epoch {first['epoch']}." if first and not several(best) else ""
    if not others:
        return epoch
    second, behind = others[0][0], 100 * (top - others[0][1])
    name = plain(short(second.label, 60))
    apart = f"{name} has exactly as many right" if behind == 0 else f"Next: {name}, {behind:.2f} points behind"
    return f"{epoch} {apart}.".strip()


def _all_verdicts(comparison: Comparison) -> None:
    """Every difference with its interval, every sentence, and how it was worked out."""
    found = _verdicts(comparison)
    if not found:
        st.markdown("There is one experiment, so there is nothing to tell apart. Choose a second one above.")
        return
    told = [v for v in found if v.kind != "refused"]
    if told:
        figure = remembered(("differences", comparison.key, dark()), lambda: differences(found, dark=dark()))
        chart(figure, key="differences", alt=differences_in_words(found))
        csv_button(lambda: numbers(found), "fer-lab-differences", key="differences-csv", label="Differences as CSV")
    for verdict in found:
        _say(verdict)
    st.caption(
        f"Against {plain(comparison.baseline.label)}, in top-1 on val. With {MIN_SEEDS} finished seeds of each, the verdict is about the recipes: a t test over seeds, paired where the seeds are the same. With fewer, or where the seeds of one began from the same weights, it is about two networks: the exact McNemar test on the same pictures, with a bootstrap interval."
        + f" {correction(found)}"
    )


# --- what must be known, and what the curves say


def _warnings(comparison: Comparison) -> None:
    """What a reader must know before believing the curves."""
    for found in remembered(("together", comparison.key), lambda: diagnose_together(comparison.runs)):
        if found.level == "problem":
            st.warning(_first_bold(found.sentence), icon=":material/warning:")
        elif found.kind == "same-training":
            st.info(plain(found.sentence), icon=":material/info:")
        else:
            st.caption(f":material/info: {plain(found.sentence)}")
    _states(comparison.runs)


def _first_bold(text: str) -> str:
    """The text for Markdown, its first sentence bold."""
    first, stop, rest = text.partition(". ")
    return f"**{plain(first)}.** {plain(rest)}" if stop else f"**{plain(text)}**"


def _states(runs: Sequence[Run]) -> None:
    """Runs that still train, and runs that ended early."""
    made = [plain(r.name) for r in runs if r.members and not r.metrics]
    if made:
        st.caption(f":material/group_work: Not evaluated yet, so without figures: {', '.join(made)}.")
    trained = [r for r in runs if not r.members]
    active = [
        f"{plain(r.name)} ({r.state}, {len(r.metrics)} of {r.epochs} epochs)" for r in trained if r.state in ACTIVE
    ]
    if active:
        st.caption(f":material/sync: Still training, figures so far: {', '.join(active)}.")
    early = [
        f"{plain(r.name)} ({r.state} after {len(r.metrics)} of {r.epochs} epochs)"
        for r in trained
        if r.state in ("stopped", "failed", "lost")
    ]
    if early:
        st.caption(f":material/pause_circle: Not trained to the end: {', '.join(early)}.")
    for run in runs:
        if run.problems:
            st.caption(f":material/broken_image: {plain(run.name)}: {plain('; '.join(run.problems))}.")


def _findings(runs: Sequence[Run]) -> None:
    """What the rules find in each run, with its evidence and the remedies that fit it."""
    st.caption(
        "Found by rules that are written down in the program. Each remedy opens Train with this run's settings and that one change."
    )
    for i, (run, name) in enumerate(zip(runs, labels(runs), strict=True)):
        found = remembered(("diagnosis", run_key(run), _stamp(run)), lambda run=run: diagnose(run))
        problems = [f.title.lower() for f in found if f.level == "problem"]
        nothing = (
            "no training curve" if run.members else "nothing that worries" if run.metrics else "nothing to say yet"
        )
        said = ", ".join(problems) or nothing
        with st.expander(f"{plain(short(name, 60))}: {plain(said)}", expanded=i == 0):
            for finding in found:
                _finding(run, finding)
            if run.members:
                st.markdown("The rules read training curves, and an ensemble has none.")
            elif not found:
                st.markdown("None of the rules found anything." if run.metrics else "No epoch has ended yet.")


def _finding(run: Run, finding: Finding) -> None:
    icon = ":material/warning:" if finding.level == "problem" else ":material/info:"
    evidence = finding.evidence[:1].upper() + finding.evidence[1:]
    st.markdown(f"{icon} **{plain(finding.title)}.** {plain(evidence)}")
    if finding.remedies:
        with st.container(horizontal=True, gap="small"):
            for remedy in finding.remedies:
                st.page_link(
                    "pages/train.py",
                    label=f"Try: {plain(remedy.title)}",
                    icon=":material/healing:",
                    query_params=[("clone", run.id), *(("set", a) for a in remedy.assignments)],
                    help=f"{plain(remedy.why)} Changes: {plain(', '.join(remedy.assignments))}.",
                )
