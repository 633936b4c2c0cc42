"""The Train page's launching: which runs, how many, where, how long they will take, and the button."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from fer import access, cluster
from fer.config import SETTINGS, Config, flatten, parse_assignments, with_settings
from fer.errors import ConfigError, FerError
from fer.experiments import duration
from fer.jobs import MAX_GRID, free_bytes, grid, max_runs, seeds, submit, trained_by_worker, waiting
from fer.pretrained import PUBLISHED, weights_note
from fer.recipes import RECIPES, STUDY, changes_from
from fer.runs import Run, RunStore
from fer.ui.frame import plain
from fer.ui.loaders import cluster_problem, core_json
from fer.ui.train_form import Form, TrainState, explain, label, shown_value, used

Plan = list[tuple[str | None, Config]]
MODES = ("One run", "Seeds", "Grid", "The study")
_MAX_SETTINGS = 3
_MAX_MEASURED = 4
_MAX_LINKS = 8
_DOUBLE_CLICK_SECONDS = 2.0
_LITTLE_DISK = 10**9
# What a step costs does not depend on these.
_NOT_TIMED = ("optim.lr", "optim.weight_decay", "optim.layer_decay", "train.epochs", "seed")


def launch_card(store: RunStore, runs: Sequence[Run], state: TrainState, form: Form) -> Plan:
    """Choose which runs, say how many and how long, launch; returns the runs as planned, none where something is wrong."""
    with st.container(border=True):
        mode = st.segmented_control(
            "What to launch",
            MODES,
            default=MODES[0],
            required=True,
            key="launch-mode",
            persist_state="session",
            width="stretch",
        )
        plan, sentence, problem = _planned(mode or MODES[0], form)
        if problem:
            st.warning(explain(problem), icon=":material/rule:")
        elif form.problem:
            st.markdown("Nothing can be launched before the settings are right.")
        else:
            st.markdown(sentence)
            for note in {weights_note(config.model): None for _, config in plan}:
                if note:
                    st.caption(plain(note))
        state.on_ray, wrong = _place(plan)
        _costs(store, runs, state, plan)
        if access.may_change():
            _launch_button(store, state, [] if wrong else plan, "the study" if mode == "The study" else "")
        else:
            st.info(f"Nothing can be launched from here. {plain(access.why_not())}", icon=":material/visibility:")
        _outcome(state, plan)
    return plan


def study_plan(form: Form) -> Plan:
    """The study's four recipes with the visitor's changes to all but network and schedule. Raises ConfigError."""
    return [(name, with_settings(RECIPES[name].config(), _for_the_study(form))) for name in STUDY]


def _for_the_study(form: Form) -> dict[str, Any]:
    """The visitor's changes to all but network and schedule that mean something for the study's networks."""
    values = {**flatten(form.config), "model.name": "baseline"} if form.config else {}
    return {p: v for p, v in form.changes.items() if p.split(".")[0] not in ("model", "schedule") and used(p, values)}


def grid_plan(recipe: str, config: Config, choices: dict[str, str]) -> Plan:
    """One run a combination; choices: `{dotted path: values with commas between}`. Equal runs once. Raises ConfigError."""
    values = {path: _values(path, text) for path, text in choices.items()}
    return [(recipe, c) for c in dict.fromkeys(grid(config, values))]


def time_arguments(config: Config) -> tuple[str, ...]:
    """What to ask `python -m fer` for the time of an epoch; the same for runs whose steps cost the same."""
    idle = _NOT_TIMED
    if not config.train.freeze_epochs:  # which a network that begins at random cannot have
        idle += ("model.from_run",)
    changes = {
        p: v for p, v in changes_from("baseline", config).items() if p not in idle and not p.startswith("schedule.")
    }
    name = changes.pop("data.name", config.data.name)
    settings = [text for p, v in changes.items() for text in ("--set", f"{p}={'none' if v is None else v}")]
    return ("cost", "--queued", "--dataset", name, *settings)


def seconds_of(plan: Plan, measured: dict[tuple[str, ...], dict[str, Any]]) -> tuple[float, float, float] | None:
    """Shortest and longest epoch and the sum of all runs, in seconds; None where nothing fitting was measured.

    A run whose own steps were not timed counts like the mean of those that were.
    """
    keys = [time_arguments(config) for _, config in plan]
    known = {k: measured[k]["epoch_seconds"] for k in keys if k in measured}
    if not known or not set(_to_measure(plan)) <= set(known):
        return None
    mean = sum(known.values()) / len(known)
    total, usual = 0.0, []
    for key, (_, config) in zip(keys, plan, strict=True):
        epoch, frozen = known.get(key, mean), config.frozen_epochs
        first = measured.get(key, {}).get("frozen_epoch_seconds", epoch)
        total += epoch * (config.train.epochs - frozen) + first * frozen
        usual.append(first if frozen == config.train.epochs else epoch)
    return min(usual), max(usual), total


def _first_epochs(plan: Plan, measured: dict[tuple[str, ...], dict[str, Any]]) -> str:
    """How long the first epochs take where all runs begin with a backbone that stands still, and go on otherwise."""
    found = {
        (config.frozen_epochs, measured.get(time_arguments(config), {}).get("frozen_epoch_seconds"))
        for _, config in plan
        if config.frozen_epochs < config.train.epochs
    }
    n, seconds = found.pop() if len(found) == 1 else (0, None)
    if not n or seconds is None:
        return ""
    return f", the first {n} epochs **{duration(seconds)}** each" if n > 1 else f", the first **{duration(seconds)}**"


def _places() -> int:
    """How many queued runs train at a time."""
    try:
        return max_runs()
    except ConfigError:  # launching says what is wrong
        return 1


def _planned(mode: str, form: Form) -> tuple[Plan, str, str]:
    """The runs, what they are in a sentence, and what is wrong with the choice of runs."""
    draw: dict[str, Callable[[Form], tuple[Plan, str]]] = {"Seeds": _several_seeds, "Grid": _grid, "The study": _study}
    try:
        return *draw.get(mode, _one)(form), ""
    except ConfigError as error:
        return [], "", str(error)


def _one(form: Form) -> tuple[Plan, str]:
    if form.config is None:
        return [], ""
    return form.runs, f"**1 run**: {RECIPES[form.recipe].title} {_on(form.config)}, seed {form.config.seed}."


def _several_seeds(form: Form) -> tuple[Plan, str]:
    n = st.number_input(
        "How many seeds",
        value=3,
        step=1,
        key="seed-count",
        persist_state="session",
        help=f"The first is the seed of the settings, the others follow it. At most {MAX_GRID}.",
    )
    if not 1 <= n <= MAX_GRID:
        raise ConfigError(
            f"The number of seeds cannot be {n}. Allowed: a whole number, at least 1, at most {MAX_GRID}."
        )
    if form.config is None:
        return [], ""
    first = form.config.seed
    configs = seeds(form.config, range(first, first + int(n)))
    named = ", ".join(str(c.seed) for c in configs) if n <= 8 else f"{first} to {first + n - 1}"
    text = f"{_runs(len(configs))}: {RECIPES[form.recipe].title} {_on(form.config)}{_each(n)}, seed{'s' if n > 1 else ''} {named}."
    return [(form.recipe, c) for c in configs], text


def _grid(form: Form) -> tuple[Plan, str]:
    paths = st.multiselect(
        "Settings to try",
        list(SETTINGS),
        format_func=lambda p: f"{label(p)} ({p})",
        max_selections=_MAX_SETTINGS,
        key="grid-settings",
        persist_state="session",
        placeholder="Choose one to three settings",
        help="Every combination of their values becomes a run.",
    )
    choices = {path: _grid_values(path) for path in paths}
    if not paths:
        return [], "Choose the settings whose values shall be tried in every combination."
    if form.config is None:
        return [], ""
    plan = grid_plan(form.recipe, form.config, choices)
    product = " x ".join(f"{len(_values(p, t))} of {label(p).lower()}" for p, t in choices.items())
    named = (
        f"{_runs(len(plan))}: {product}, {RECIPES[form.recipe].title} {_on(form.config, choices)}{_each(len(plan))}."
    )
    return plan, named


def _grid_values(path: str) -> str:
    setting = SETTINGS[path]
    if setting.choices:
        return ", ".join(
            st.multiselect(
                f"Values of {label(path).lower()}", setting.choices, key=f"grid-{path}", persist_state="session"
            )
        )
    example = {"optim.lr": "0.0003, 0.001, 0.003", "train.batch_size": "32, 64, 128", "seed": "0, 1, 2"}.get(path, "")
    return st.text_input(
        f"Values of {label(path).lower()}",
        key=f"grid-{path}",
        persist_state="session",
        placeholder=example or "values with commas between",
        help=plain(f"{setting.help} Allowed: {setting.bounds or 'true, false'}. Write commas between the values."),
    )


def _values(path: str, text: str) -> list[Any]:
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise ConfigError(f"{label(path)} has no values yet. Give at least one; write commas between several.")
    return [parse_assignments([f"{path}={part}"])[path] for part in parts]


def _study(form: Form) -> tuple[Plan, str]:
    if form.config is None:
        return [], ""
    plan = study_plan(form)
    names = ", ".join(RECIPES[name or ""].title for name, _ in plan)
    common = [
        f"{label(p).lower()} {shown_value(v)}"
        for p, v in _for_the_study(form).items()
        if p not in ("data.name", "train.epochs", "seed")
    ]
    extra = f" With your {', '.join(common)}." if common else ""
    return plan, f"**4 runs**, the study's experiments: {names}; {_on(plan[0][1])} each, seed {plan[0][1].seed}.{extra}"


def _on(config: Config, varied: dict[str, str] | None = None) -> str:
    data = f"on {plain(config.data.name)}" if "data.name" not in (varied or {}) else ""
    epochs = (
        ""
        if "train.epochs" in (varied or {})
        else f"{config.train.epochs} epoch{'s' if config.train.epochs > 1 else ''}"
    )
    return ", ".join(part for part in (data, epochs) if part)


def _each(n: int) -> str:
    return " each" if n > 1 else ""


def _runs(n: int) -> str:
    return f"**{n} run{'s' if n != 1 else ''}**"


# --- where ---------------------------------------------------------------------------------------------------------


def _place(plan: Plan) -> tuple[cluster.Ask | None, bool]:
    """What is asked of a Ray cluster, None for this machine, and whether something is wrong with it, which is then shown."""
    where = cluster.address()
    if where is None:
        return None, False
    names = {"machine": "This machine", "ray": f"Ray cluster at {cluster.name_of(where)}"}
    chosen = st.segmented_control(
        "Where",
        list(names),
        default="machine",
        required=True,
        format_func=names.__getitem__,
        key="launch-on",
        persist_state="session",
        width="stretch",
    )
    if chosen != "ray":
        return None, False
    if problem := cluster_problem(where):
        st.warning(plain(problem), icon=":material/cloud_off:")
        return None, True
    try:
        return _asked(where, plan), False
    except ConfigError as error:
        st.warning(explain(str(error)), icon=":material/rule:")
        return None, True


def _asked(where: str, plan: Plan) -> cluster.Ask:
    """CPUs, GPUs and memory as the visitor wants them for each run. Raises ConfigError."""
    usual = cluster.Ask(where).defaults(plan[0][1]) if plan else {}
    one, two, three = st.columns(3)
    cpus = one.number_input(
        "CPUs a run",
        value=None,
        step=1,
        placeholder=_number(usual, "cpus"),
        key="ray-cpus",
        persist_state="session",
        help="It computes with as many threads, unless runtime.threads says fewer. Empty: runtime.threads, else 2.",
    )
    gpus = two.number_input(
        "GPUs a run",
        value=None,
        step=0.25,
        format="%g",
        placeholder=_number(usual, "gpus"),
        key="ray-gpus",
        persist_state="session",
        help="0 to 1; with 0.5 two runs share one. Empty: 1 where runtime.device is cuda, else none.",
    )
    memory = three.number_input(
        "GiB a run",
        value=None,
        step=1.0,
        format="%g",
        placeholder=_number(usual, "memory_gib"),
        key="ray-memory",
        persist_state="session",
        help="Memory. Ray puts no more runs on a node than its memory allows; it does not hold a run to it. Empty: 2.",
    )
    ask = cluster.Ask(where, cpus, gpus, memory)
    for _recipe, config in plan:
        ask.of(config)
    st.caption(
        "Ray chooses the nodes and trains as many runs at once as fit. Every node must find this store, its data and this project where this machine does."
    )
    return ask


def _number(usual: dict[str, Any], name: str) -> str:
    return f"{usual[name]:g}" if usual else ""


# --- what it costs ---------------------------------------------------------------------------------------------------


def _to_measure(plan: Plan) -> list[tuple[str, ...]]:
    """The timings that a plan needs, at most four, spread over the plan."""
    keys = list(dict.fromkeys(time_arguments(config) for _, config in plan))
    if len(keys) <= _MAX_MEASURED:
        return keys
    return [keys[i * (len(keys) - 1) // (_MAX_MEASURED - 1)] for i in range(_MAX_MEASURED)]


def _costs(store: RunStore, runs: Sequence[Run], state: TrainState, plan: Plan) -> None:
    free = free_bytes(store.root)
    known = seconds_of(plan, state.measured) if plan else None
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(
            f"{_time_text(plan, known, _first_epochs(plan, state.measured))} Free disk: **{free / 1e9:,.1f} GB**.",
            width="stretch",
        )
        asked = known is None and st.button(
            "Measure the time",
            icon=":material/timer:",
            key="measure",
            disabled=not plan,
            help="Times a few training steps on this machine; takes some seconds.",
        )
    if asked:
        _measure(state, plan)
    if known:
        st.caption(_measured_where(state, plan))
    needed = _backbones_bytes(plan)
    if free < max(_LITTLE_DISK, 2 * needed):  # a file is written beside the one whose place it takes
        planned = f"What is planned needs about {needed / 1e9:,.1f} GB"
        small = "A run of the study's networks needs about 10 MB, one of strong's 45"
        st.warning(
            f"There is little room on the disk. {planned if needed else small}; delete old runs or free some space first.",
            icon=":material/hard_drive:",
        )
    if not state.on_ray and (text := _finished_first(runs)):
        st.caption(f":material/schedule: {text}")


def _finished_first(runs: Sequence[Run]) -> str:
    """How many of the runs end before one that is launched now begins, in a sentence; '' where it begins at once."""
    n, places = len(trained_by_worker(runs)) + len(waiting(runs)), _places()
    if n < places:
        return ""
    told = f"{n} run{'s are' if n > 1 else ' is'} running or queued"
    if places == 1:
        return f"{told} and will be finished first."
    first = n - places + 1
    return f"{told}, {places} at a time: the next starts when {first} of them {'have' if first > 1 else 'has'} ended."


def _backbones_bytes(plan: Plan) -> float:
    """About what the runs of torchvision's networks will need: best and last weights, and those to go on from with what the
    optimizer keeps, and their mean where there is one. The others are small beside these."""
    return sum(
        1e6 * PUBLISHED[c.model.name].megabytes * (4 + (c.optim.name != "sgd") + (c.train.ema_decay is not None))
        for _, c in plan
        if c.model.name in PUBLISHED
    )


def _time_text(plan: Plan, known: tuple[float, float, float] | None, first: str) -> str:
    if known is None:
        return "Time: not measured yet."
    shortest, longest, total = known
    epoch = (
        duration(shortest)
        if duration(shortest) == duration(longest)
        else f"{duration(shortest)} to {duration(longest)}"
    )
    if len(plan) == 1:
        return f"About **{epoch}** an epoch{first}, **{duration(total)}** in all."
    in_all = total / min(_places(), len(plan))
    return f"About **{epoch}** an epoch{first}, **{duration(total / len(plan))}** a run, **{duration(in_all)}** for all {len(plan)}."


def _measure(state: TrainState, plan: Plan) -> None:
    try:
        with st.spinner("Timing some training steps on this machine"):
            for arguments in _to_measure(plan):
                if arguments not in state.measured:
                    state.measured[arguments] = core_json(*arguments)
    except FerError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.rerun()


def _measured_where(state: TrainState, plan: Plan) -> str:
    found = next(state.measured[k] for k in _to_measure(plan))
    threads = f", {found['threads']} threads" if found["device"] == "cpu" else ""
    return f"Measured here on {plain(str(found['device_name']))}, {found['precision']}{threads}; other programs at work make it longer."


# --- launching -------------------------------------------------------------------------------------------------------


def _launch_button(store: RunStore, state: TrainState, plan: Plan, what: str) -> None:
    n = len(plan)
    text = (
        f"Launch {what} ({n} runs)"
        if what and n
        else f"Launch {n} runs"
        if n > 1
        else "Launch 1 run"
        if n
        else "Launch"
    )
    # The key changes with each launch, so that the second half of a double click finds no button any more.
    if st.button(
        text,
        type="primary",
        icon=":material/rocket_launch:",
        width="stretch",
        disabled=not n,
        key=f"launch-{state.launches}",
    ):
        _launch(store, state, plan)
        st.rerun()


def _launch(store: RunStore, state: TrainState, plan: Plan) -> None:
    """Queue the runs once. Only fields of `state` change here: nothing between them can be interrupted by the next click."""
    if plan == state.launched_plan and time.monotonic() - state.launched_at < _DOUBLE_CLICK_SECONDS:
        return
    state.launches += 1
    state.launched, state.problem = [], ""
    try:
        with st.spinner("Queueing"):
            state.launched = [run.id for run in submit(store, plan, state.on_ray)]
    except FerError as error:
        state.problem = str(error)
    state.launched_plan, state.launched_at = list(plan), time.monotonic()


def _outcome(state: TrainState, plan: Sequence[Any]) -> None:
    if list(plan) != state.launched_plan:
        return
    if state.problem:
        st.error(plain(state.problem), icon=":material/error:")
    if not state.launched:
        return
    n = len(state.launched)
    where = "on the Ray cluster" if state.on_ray else "in the background"
    st.success(
        f"{n} run{'s' if n > 1 else ''} queued. {'They train' if n > 1 else 'It trains'} {where}, also when you close this page.",
        icon=":material/check_circle:",
    )
    for run_id in state.launched[:_MAX_LINKS]:
        st.page_link(
            "pages/runs.py", label=f"Watch {plain(run_id)}", icon=":material/monitoring:", query_params={"run": run_id}
        )
    if n > _MAX_LINKS:
        st.page_link("pages/runs.py", label=f"and {n - _MAX_LINKS} more on Runs", icon=":material/monitoring:")
