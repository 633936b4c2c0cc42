"""The parts of the Runs page: the live table, one run's details, and what can be done with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from fer import access, cluster, jobs
from fer.config import SETTINGS, flatten
from fer.errors import ConfigError, FerError, RunError
from fer.experiments import duration, progress_in_words, setting_text
from fer.plots.curves import run_curves
from fer.runs import ACTIVE, INSTEAD, RESUMABLE, Run, RunStore
from fer.ui import notes
from fer.ui.frame import dark, plain
from fer.ui.loaders import cluster_problem, remembered, run_key, shown
from fer.ui.parts import (
    chart,
    data_notes,
    keep_in_address,
    own_changes,
    percent,
    recipe_title,
    run_label,
    state_badge,
    state_cell,
    table,
)

_EVERY_SECONDS = 2.0  # between two looks while something trains
_IDLE_SECONDS = 10.0  # and while nothing does: a run may be started elsewhere
_SHOWN = "shown-run"
Wanted = Callable[[Sequence[Run]], list[Run]]
_ORDER = {"running": 0, "stopping": 0, "queued": 1}


def ordered(runs: Sequence[Run]) -> list[Run]:
    """Running, then waiting, then pinned, then the rest, each newest first."""
    return sorted(runs, key=lambda r: (_ORDER.get(r.state, 2), not r.notes.pinned))


def serve_queue(store: RunStore, runs: Sequence[Run]) -> None:
    """See that queued runs have a worker: after a reboot nobody else would start one. Say where the queue is paused."""
    for where in cluster.addresses(runs):
        if problem := cluster_problem(where):
            st.warning(
                f"{plain(problem)} Its runs keep what they saved, and the cluster is asked again.",
                icon=":material/cloud_off:",
            )
    if jobs.paused(store):
        st.warning("The queue is paused: no further run is started.", icon=":material/pause:")
        if access.may_change() and st.button("Go on with the queue", icon=":material/play_arrow:", key="unpause"):
            jobs.unpause(store)
            st.rerun()
        return
    if access.may_change() and jobs.unserved(store, runs):
        try:
            jobs.max_runs()
            jobs.ensure_worker(store)
        except ConfigError as error:
            st.warning(f"No queued run is started. {plain(str(error))}", icon=":material/rule:")
        except RunError as error:  # a store that can only be read is still there to look at
            st.caption(f":material/info: Queued runs are not served from here. {plain(str(error))}")


def switches(runs: Sequence[Run]) -> Wanted:
    """Which runs are shown: archived ones, only one's own. Each switch appears only where it would change something."""
    n = sum(r.notes.archived for r in runs)
    archived = bool(n) and st.toggle(f"Show {n} archived", key="archived", value=st.query_params.get("archived") == "1")
    me = access.visitor().address
    launched = {r.launched_by for r in runs}
    mine = (
        me in launched
        and len(launched) > 1
        and st.toggle(
            "Only mine", key="mine", value=st.query_params.get("mine") == "1", help="Those that you launched yourself."
        )
    )
    return lambda found: [r for r in shown(found, archived=archived) if not mine or r.launched_by == me]


def live_table(store: RunStore, runs: Sequence[Run], wanted: Wanted) -> None:
    """What trains or waits as a table that moves, and all other runs as one that is drawn when a run changes its state.

    runs: as the page has listed them; wanted: which of the store's are shown.
    """
    every = _EVERY_SECONDS if any(r.state in ACTIVE for r in runs) else _IDLE_SECONDS
    listed = [runs]  # for the page's own turn; the timer's turns list the store themselves

    @st.fragment(run_every=every)
    def live() -> None:
        runs = listed.pop() if listed else ordered(wanted(store.runs(archived=True)))
        _rerun_on_change("table", [(r.id, r.state, r.name) for r in runs])
        active = [r for r in runs if r.state in ACTIVE]
        if active:
            running = sum(r.state != "queued" for r in active)
            st.markdown(f"**{running} running, {len(active) - running} waiting.** They go on when you close this page.")
            _table(active, "active")

    live()
    if access.may_change() and any(r.state in ACTIVE for r in runs) and not jobs.paused(store):
        st.button(
            "Pause the queue",
            icon=":material/pause:",
            key="pause",
            on_click=jobs.pause,
            args=(store,),
            help="Start no further run. Those that train go on to their end.",
        )
    others = [r for r in runs if r.state not in ACTIVE]
    if others:
        st.fragment(_table)(others, "others")


def _table(runs: Sequence[Run], what: str) -> None:
    # A selection is a row's number: a table of other rows, and the table after a choice, begin without one.
    key = f"runs-{what}-{st.session_state.get('choices', 0)}-{hash(tuple(r.id for r in runs))}"
    has_launchers = any(r.launched_by for r in runs)
    event = table(
        [_row(r) | ({"by": r.launched_by} if has_launchers else {}) for r in runs],
        height=min(38 + 36 * len(runs), 320),
        column_config=_COLUMNS,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
    )
    if event.selection.rows:
        _choose(runs[event.selection.rows[0]].id)
        st.session_state["choices"] = st.session_state.get("choices", 0) + 1
        st.rerun()


def pick(runs: Sequence[Run], everything: Sequence[Run]) -> str | None:
    """The id of the run whose details are shown, kept in the URL under `run`; None where there is none to show.

    runs: those of the tables; everything: all of the store, since a link to an archived run opens it too. The URL wins: what is
    chosen on the page is written there at once, so one that says something else was opened since.
    """
    known = {r.id: r for r in everything}
    asked = st.query_params.get("run")
    if asked and asked not in known:
        st.warning(f"There is no run {plain(asked[:80])} here; it may have been deleted.", icon=":material/search_off:")
    first = runs[0].id if runs else None
    found = next((i for i in (asked, st.session_state.get(_SHOWN)) if i in known), first)
    if found is None:
        return None
    _choose(found)
    listed = runs if any(r.id == found for r in runs) else [*runs, known[found]]
    labels = {r.id: run_label(r) + ", archived" * r.notes.archived for r in listed}
    # A select box keeps showing the label that it was chosen by; one with a name of its own shows the new one.
    key = f"details-{hash(tuple(labels.values()))}"
    st.session_state[key] = found
    return st.selectbox(
        "Details of",
        list(labels),
        format_func=labels.__getitem__,
        key=key,
        on_change=lambda: _choose(st.session_state[key]),
    )


def _choose(run_id: str) -> None:
    """Let this be the run whose details are shown."""
    st.session_state[_SHOWN] = run_id
    keep_in_address("run", run_id)


def live_details(store: RunStore, run_id: str) -> None:
    """One run: state, what can be done, curves, settings, log; follows it while it trains."""
    every = _EVERY_SECONDS if store.get(run_id).state in ACTIVE else _IDLE_SECONDS

    @st.fragment(run_every=every)
    def details() -> None:
        try:
            run = store.get(run_id)
            _head(run)
            _actions(store, run)
        except FerError as error:
            st.error(plain(str(error)), icon=":material/error:")
            return
        _rerun_on_change("details", [run.id, run.state, run.name, run.best])
        curves, settings, metrics, log = st.tabs(["Curves", "Settings", "Epochs", "Log"])
        with curves:
            _curves(run)
        with settings:
            _settings(run)
        with metrics:
            _epochs(run)
        with log:
            st.code(run.log_tail() or "The log is empty.", language=None, height=320)

    details()


# --- one run -----------------------------------------------------------------------------------------------------


def _head(run: Run) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(run.name), anchor=False, width="content")
        state_badge(run.state)
        if run.notes.archived:
            st.badge("archived", icon=":material/archive:", color="gray")
        if run.shipped:
            st.badge("came with FER Lab", icon=":material/inventory_2:", color="gray")
        if run.synthetic:
            st.badge("synthetic data", icon=":material/draw:", color="gray")
    if run.state in ACTIVE:
        st.progress(run.progress, text=progress_in_words(run))
    if run.launched_by:
        st.caption(f":material/person: Launched by {plain(run.launched_by)}")
    if run.on_ray:
        _on_ray(run.on_ray)
    if run.status.get("error"):
        st.error(plain(str(run.status["error"])), icon=":material/error:")
    _instead(run)
    if run.state in RESUMABLE and run.stayed_behind:
        st.info(f"It was imported, and what it needs to go on stayed behind. {INSTEAD}", icon=":material/info:")
    if run.state == "lost" and run.members:
        st.warning(
            f"Its making was broken off. Delete it (More), and make it again of {plain(', '.join(run.members))}.",
            icon=":material/help:",
        )
    elif run.state == "lost":
        gone = (
            "Nothing was heard of it for a minute: its node, or the cluster, may be gone. FER Lab asks the cluster; where that does not answer any more, resume it here."
            if run.on_ray
            else "Its process is gone without a word: the machine was restarted, or it ran out of memory. Resume goes on from the last save."
        )
        st.warning(gone, icon=":material/help:")
    for problem in run.problems:
        st.warning(f"Damaged: {plain(problem)}", icon=":material/broken_image:")


def _on_ray(ray: Mapping[str, Any]) -> None:
    """Where on a cluster a run was launched, and what FER Lab has to say of that."""
    where = f"Ray cluster at {cluster.name_of(ray['address'])}: {cluster.asks_for(ray)}, job {ray['job']}"
    st.caption(f":material/lan: {plain(where)}")
    if ray.get("said"):
        st.info(plain(str(ray["said"])), icon=":material/info:")


def _instead(run: Run) -> None:
    """Offer the settings with which a training that failed may go through."""
    tried = run.status.get("try_instead")
    if run.state == "failed" and isinstance(tried, dict) and access.may_change():
        for path, value in tried.items():
            if path in SETTINGS and isinstance(value, int | float):
                st.page_link(
                    "pages/train.py",
                    label=f"Clone it with {plain(path)} {value:g}",
                    icon=":material/healing:",
                    query_params={"clone": run.id, "set": f"{path}={value:g}"},
                )


def _actions(store: RunStore, run: Run) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        changes = access.may_change()
        if changes and run.state in ("queued", "running") and not run.members:
            _button(
                run,
                "Stop",
                ":material/stop_circle:",
                lambda: jobs.stop(store, run.id),
                help="It finishes its step and saves; you can resume it.",
            )
        if changes and jobs.waiting([run]):
            _button(
                run,
                "Run next",
                ":material/vertical_align_top:",
                lambda: jobs.run_next(store, run.id),
                help="Let it be the next of the queue that is started.",
            )
        if changes and run.submission and run.state in ACTIVE:
            _stop_all(store, run)
        imported = run.state in RESUMABLE and run.stayed_behind
        if changes and not run.not_resumed:
            _button(
                run,
                "Resume",
                ":material/resume:",
                lambda: jobs.resume(store, run.id),
                help="Go on from the last save, on the Ray cluster." if run.on_ray else "Go on from the last save.",
                primary=True,
            )
            if run.on_ray:
                _button(
                    run,
                    "Resume here",
                    ":material/computer:",
                    lambda: jobs.resume(store, run.id, here=True),
                    help="Go on from the last save, on this machine.",
                )
        if changes and run.config and not run.members:
            st.page_link(
                "pages/train.py",
                label="Clone",
                icon=":material/content_copy:",
                query_params={"clone": run.id},
                help="Open the Train form with this run's settings.",
            )
        if changes and (run.state == "finished" or imported) and run.has_weights and not run.members:
            _train_on(run)
        if run.metrics:
            st.page_link(
                "pages/compare.py",
                label="Compare",
                icon=":material/stacked_line_chart:",
                query_params=[("run", i) for i in dict.fromkeys((run.id, "baseline")) if store.folder(i).is_dir()],
            )
            st.page_link("pages/evaluate.py", label="Evaluate", icon=":material/grid_on:", query_params={"run": run.id})
        if changes:
            with st.popover("More", icon=":material/more_horiz:"):
                notes.edit(store, run)


def _train_on(run: Run) -> None:
    begin = (f"model.from_run={run.id}", "model.pretrained=false", "model.weights=none")
    st.page_link(
        "pages/train.py",
        label="Train on",
        icon=":material/trending_up:",
        query_params=[("clone", run.id), *(("set", change) for change in begin)],
        help="Open the Train form with this run's settings, beginning from its best weights: for more epochs at another rate, or other pictures.",
    )


def _stop_all(store: RunStore, run: Run) -> None:
    together = [r for r in jobs.submitted_together(run, store.runs(archived=True)) if r.state in ACTIVE]
    if len(together) > 1:
        _button(
            run,
            f"Stop all {len(together)}",
            ":material/cancel:",
            lambda: jobs.stop_submission(store, run.id),
            help="All that were launched together with this one: those that wait do not start, those that train save and end.",
        )


def trash(store: RunStore) -> None:
    """What was deleted: bring one back, or empty the trash; nothing where there is nothing in it."""
    trashed = store.trash()
    if not trashed or not access.may_change():
        return
    size = sum(t.bytes for t in trashed) / 1e6
    with st.expander(
        f"Trash: {len(trashed)} run{'s' if len(trashed) > 1 else ''}, {size:,.1f} MB", icon=":material/delete:"
    ):
        labels = {t.key: f"{t.run}, deleted {time.strftime('%d %b %H:%M', time.localtime(t.deleted))}" for t in trashed}
        chosen = st.selectbox("Deleted run", list(labels), format_func=labels.__getitem__, key="trashed")
        if chosen and st.button("Bring it back", icon=":material/restore_from_trash:", key="restore"):
            _choose(store.restore(chosen))
            st.rerun()
        sure = st.checkbox("Delete them all for good", key="sure-trash")
        if st.button("Empty the trash", icon=":material/delete_forever:", key="empty-trash", disabled=not sure):
            store.empty_trash()
            st.rerun()


def _button(
    run: Run,
    label: str,
    icon: str,
    do: Callable[[], object],
    *,
    help: str | None = None,
    primary: bool = False,
    disabled: bool = False,
) -> None:
    kind = "primary" if primary else "secondary"
    if st.button(label, icon=icon, help=help, type=kind, disabled=disabled, key=f"{label}-{run.id}"):
        do()
        st.toast(f"{label}: {plain(run.name)}", icon=icon)
        st.rerun()


def _curves(run: Run) -> None:
    best, last = run.best, run.last
    if best is None or last is None:
        st.markdown("The first point appears when the first epoch ends.")
        return
    one, two, three, four = st.columns(4)
    if run.members:
        one.metric("Val top-1", percent(best["val_top1"]))
        two.metric("Train top-1", percent(best["train_top1"]))
        three.metric("Networks together", len(run.members))
        four.metric("Their trainings", duration(best["epoch_seconds"]), help="The time of all of them together.")
        origins = f" The trainings are counted {plain(run.origins_note)}." if run.origins_note else ""
        st.markdown(f"The mean of the calibrated probabilities of {plain(', '.join(run.members))}.{origins}")
        data_notes([run], remarks=True)
        return
    one.metric("Best val top-1", percent(best["val_top1"]), help=f"In epoch {best['epoch']}.")
    two.metric("Last val top-1", percent(last["val_top1"]))
    three.metric("Last train top-1", percent(last["train_top1"]))
    four.metric("Seconds an epoch", f"{run.epoch_seconds:.1f}", help="Median, training and validation together.")
    chart(
        remembered(("run", run_key(run), dark()), lambda: run_curves(run, dark())),
        key=f"curves-{run.id}",
        alt=f"Loss and top-1 of {run.name} over {len(run.metrics)} epochs; best val top-1 {percent(best['val_top1'])} in epoch {best['epoch']}.",
    )
    data_notes([run], remarks=True)


def _settings(run: Run) -> None:
    if not run.config:
        st.markdown("The settings of this run cannot be read.")
        return
    status = run.status
    st.markdown(
        f"{recipe_title(run)}, on {plain(run.data_name)}. "
        + (f"{run.model['num_params']:,} parameters. " if run.model.get("num_params") else "")
        + (
            f"Computed on {plain(str(status['device_name']))} ({plain(str(status.get('device')))}), {plain(str(status.get('precision')))}, {plain(str(status.get('threads')))} threads."
            if status.get("device_name")
            else ""
        )
    )
    if run.members:
        st.markdown(
            f"An ensemble is not trained, so it has no settings of its own; those of {plain(', '.join(run.members))} are theirs."
        )
        return
    rows = [
        {"setting": path, "value": setting_text(value), "meaning": SETTINGS[path].help}
        for path, value in flatten(run.config).items()
    ]
    table(rows)


def _epochs(run: Run) -> None:
    if not run.metrics:
        st.markdown("No epoch has ended yet.")
        return
    rows = [{k: 100 * v if k.endswith("_top1") else v for k, v in m.items()} for m in run.metrics]
    table(rows, column_config=_EPOCH_COLUMNS)


# --- the table ---------------------------------------------------------------------------------------------------


def _row(run: Run) -> dict[str, object]:
    return {
        "run": run.name,
        "state": state_cell(run),
        "progress": 100 * run.progress,
        "best": 100 * run.best["val_top1"] if run.best else None,
        "last": 100 * run.last["val_top1"] if run.last else None,
        **({"left": duration(run.seconds_left) if run.seconds_left else ""} if run.state in ACTIVE else {}),
        "recipe": run.recipe,
        "changes": own_changes(run),
        "data": f"{run.data_name} (synthetic)" if run.synthetic else run.data_name,
        "seed": run.config.seed if run.config and not run.members else None,
        "created": time.strftime("%d %b %H:%M", time.localtime(run.created)) if run.created else "",
    }


_PERCENT = "%.2f %%"
_COLUMNS = {
    "run": st.column_config.TextColumn("Run"),
    "state": st.column_config.TextColumn("State"),
    "progress": st.column_config.ProgressColumn("Progress", min_value=0, max_value=100, format="%d %%"),
    "best": st.column_config.NumberColumn("Best val top-1", format=_PERCENT),
    "last": st.column_config.NumberColumn("Last val top-1", format=_PERCENT),
    "left": st.column_config.TextColumn("Time left"),
    "recipe": st.column_config.TextColumn("Recipe"),
    "changes": st.column_config.TextColumn("Changes", help="What differs from the recipe."),
    "data": st.column_config.TextColumn("Data"),
    "seed": st.column_config.NumberColumn("Seed"),
    "created": st.column_config.TextColumn("Created"),
    "by": st.column_config.TextColumn("Launched by"),
}
_EPOCH_COLUMNS = {
    "epoch": st.column_config.NumberColumn("Epoch"),
    "lr": st.column_config.NumberColumn("Learning rate", format="%.3g"),
    "train_loss": st.column_config.NumberColumn("Train loss", format="%.4f"),
    "train_top1": st.column_config.NumberColumn("Train top-1", format=_PERCENT),
    "val_loss": st.column_config.NumberColumn("Val loss", format="%.4f"),
    "val_top1": st.column_config.NumberColumn("Val top-1", format=_PERCENT),
    "val_macro_f1": st.column_config.NumberColumn("Val macro F1", format="%.3f"),
    "epoch_seconds": st.column_config.NumberColumn("Seconds", format="%.1f"),
}


def _rerun_on_change(key: str, now: object) -> None:
    """Run the whole page again when what a fragment watches has changed state, so that timers start and end."""
    before = st.session_state.get(f"seen-{key}")
    st.session_state[f"seen-{key}"] = now
    if before is not None and before != now:
        st.rerun()
