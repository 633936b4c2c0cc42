"""The Train page's form: recipe, data set and every setting, kept while the visitor looks at other pages.

The numbers in the browser have no limits of their own: what a field shows is what is launched or refused, and the core
says why. A setting that the chosen schedule, optimizer or network does not use is not shown and stays as the recipe has
it, unless it was for the recipe's own network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from fer.cluster import Ask
from fer.config import SETTINGS, USED_WITH, Config, Setting, flatten, parse_assignments, used, with_settings
from fer.data.dataset import SAMPLE, available, default_dataset, load_head
from fer.errors import ConfigError, DataError, FerError
from fer.experiments import recipe_results, result_in_words
from fer.recipes import RECIPES, changes_from, get_recipe
from fer.runs import ACTIVE, Run, RunStore
from fer.ui.frame import plain

FIRST = ("train.epochs", "train.batch_size", "optim.lr", "model.name", "seed")
SECTIONS = {
    "train": "Training",
    "data": "Validation data",
    "model": "Network",
    "augment": "Augmentation",
    "optim": "Optimizer",
    "schedule": "Schedule",
    "runtime": "Device and precision",
}
_LABELS = {
    "data.name": "Data set",
    "data.val_fraction": "Share of train held out as val",
    "model.name": "Network",
    "model.channels": "Input channels",
    "model.width": "Width, times",
    "model.depth": "Blocks or convolutions a size",
    "model.hidden_layers": "Hidden linear layers",
    "model.input_side": "Enlarge pictures to, pixels",
    "model.pretrained": "Begin from ImageNet's weights",
    "model.weights": "Begin from this file",
    "model.from_run": "Begin from this run",
    "augment.flip": "Mirror at random",
    "augment.shift": "Shift by up to, pixels",
    "augment.crop": "Train on the middle, pixels",
    "augment.rotate": "Turn by up to, degrees",
    "augment.scale": "Scale by up to, share",
    "augment.light": "Light by up to, share",
    "augment.erase": "Erase with probability",
    "augment.mixup": "Mixup, alpha",
    "train.balance": "Class balance",
    "train.clip_norm": "Clip gradients to norm",
    "train.ema_decay": "Averaged weights, decay",
    "train.patience": "Early stopping, epochs",
    "train.freeze_epochs": "Epochs with the backbone frozen",
    "optim.name": "Optimizer",
    "optim.lr": "Learning rate",
    "optim.nesterov": "Nesterov momentum",
    "optim.layer_decay": "Rate of a stage, times the next",
    "schedule.name": "Schedule",
    "schedule.step_size": "Epochs between cuts",
    "schedule.gamma": "Multiply by (gamma)",
    "schedule.final_fraction": "Last rate, share of first",
    "schedule.pct_start": "Share that rises",
    "schedule.div_factor": "Peak divided by, at start",
    "schedule.final_div_factor": "Start divided by, at end",
    "schedule.factor": "Multiply by (factor)",
    "schedule.warmup_epochs": "Warm-up epochs",
    "runtime.threads": "CPU threads",
}
_STEPS = {"optim.lr": 0.0001, "optim.weight_decay": 0.0001, "schedule.power": 0.5, "schedule.final_div_factor": 1000.0}
_COLUMNS = 3


@dataclass
class TrainState:
    """What the form knows of one visitor. `base` holds the settings it began with, by dotted path."""

    recipe: str
    base: dict[str, Any]
    values: dict[str, Any]
    beginnings: list[str] = field(default_factory=list)
    origin: str = ""
    ask_data: bool = False
    notices: list[str] = field(default_factory=list)
    asked: dict[str, str | None] = field(default_factory=dict)
    measured: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    launches: int = 0
    launched_at: float = float("-inf")
    launched: list[str] = field(default_factory=list)
    launched_plan: list[tuple[str | None, Config]] = field(default_factory=list)
    problem: str = ""
    on_ray: Ask | None = None


@dataclass(frozen=True)
class Form:
    """What was chosen. `config` is None where `problem` says what is wrong with it."""

    recipe: str
    config: Config | None
    problem: str
    changes: dict[str, Any]

    @property
    def runs(self) -> list[tuple[str | None, Config]]:
        """The one run that these settings make; empty where something is wrong."""
        return [(self.recipe, self.config)] if self.config else []


def label(path: str) -> str:
    """A setting's name on the screen."""
    return _LABELS.get(path) or path.rpartition(".")[2].replace("_", " ").capitalize()


def shown_value(value: Any) -> str:
    """A setting's value on the screen and in labels."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def explain(problem: str) -> str:
    """The core's sentence, with the screen's name for the setting that it speaks of; Markdown."""
    paths = [p for p in re.findall(r"[a-z_]+\.[a-z_]+|\bseed\b", problem) if p in SETTINGS]
    return (f"**{label(paths[0])}.** " if paths else "") + plain(problem)


def open_form(store: RunStore) -> TrainState:
    """The visitor's form; filled from the URL's `clone`, `recipe`, `dataset` and `set` where these are new.

    `set` changes one setting each, such as `set=optim.lr=0.0005`; it goes with `clone` or `recipe`.
    """
    arrived = "train-recipe" not in st.session_state  # a widget's state goes when its page is left
    asked = _asked()
    state = st.session_state.get("train")
    if state is None:
        state = st.session_state["train"] = _from_recipe("baseline", _default_data())
    if any(asked.values()) and (asked != state.asked or (arrived and asked["clone"])):
        _fill_from_url(state, store, asked)
    state.asked = asked
    for path in SETTINGS:  # what was typed since the last look, so that everything below speaks of the same values
        if f"set-{path}" in st.session_state:
            state.values[path] = st.session_state[f"set-{path}"]
    return state


def _asked() -> dict[str, str | None]:
    """What the URL asks for; its `set`s in one text."""
    asked = {key: st.query_params.get(key) for key in ("clone", "recipe", "dataset")}
    return {**asked, "set": "\n".join(st.query_params.get_all("set")) or None}


def _forget_url(*keys: str) -> None:
    for key in keys:
        st.query_params.pop(key, None)


def settings_form(state: TrainState, runs: Sequence[Run]) -> Form:
    """Draw the form; returns what is chosen now. runs: all of the store, to begin from."""
    state.beginnings = _beginnings(state.values, runs)
    with st.container(border=True):
        _choose(state)
        brought = st.container()
        for notice in state.notices:
            st.warning(plain(notice), icon=":material/warning:")
        _fields(state, FIRST)
        _fields(state, ["schedule.name", *_section(state, "schedule", skip=("schedule.name",))])
        form = _read(state)
        with brought:
            _measured(state, runs, form.changes)
        _differences(state, form)
    with st.container(gap="xsmall"):
        for section, title in SECTIONS.items():
            paths = _section(state, section, skip=(*FIRST, "data.name")) if section != "schedule" else []
            if paths:
                with st.expander(f"More: {title.lower()}"):
                    _fields(state, paths)
    return form


def _beginnings(values: Mapping[str, Any], runs: Iterable[Run]) -> list[str]:
    """The ids of the runs whose weights the chosen network can begin from, the one that is chosen among them in any case."""
    chosen, name = values["model.from_run"], values["model.name"]
    usable = (r for r in runs if r.config and r.config.model.name == name and not r.members and r.state not in ACTIVE)
    found = [r.id for r in usable if r.has_weights]
    return found if chosen is None or chosen in found else [chosen, *found]


def _default_data() -> str | None:
    try:
        return default_dataset()
    except DataError:  # several are prepared and none is the default: the visitor says which
        return None


def _from_recipe(recipe: str, data: str | None) -> TrainState:
    base = {**flatten(get_recipe(recipe).config()), "data.name": data}
    return TrainState(recipe, base, dict(base))


def _fill(state: TrainState, recipe: str, base: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    state.recipe, state.base, state.values = recipe, dict(base), dict(values)
    state.origin, state.notices, state.problem = "", [], ""
    for key in [k for k in st.session_state if str(k).startswith("set-") or k in ("train-recipe", "train-data")]:
        del st.session_state[key]


def _fill_from_url(state: TrainState, store: RunStore, asked: Mapping[str, str | None]) -> None:
    try:
        if asked["clone"]:
            _fill_from_run(state, store, asked["clone"])
        elif asked["recipe"]:
            recipe = get_recipe(asked["recipe"])
            base = {**flatten(recipe.config()), "data.name": state.values["data.name"]}
            _fill(state, recipe.name, base, base)
        if asked["set"] and (asked["clone"] or asked["recipe"]):
            _change(state, asked["set"].split("\n"))
        if asked["dataset"] in available():
            state.values["data.name"] = asked["dataset"]
            st.session_state.pop("train-data", None)
        elif asked["dataset"]:
            state.notices = [
                f"There is no prepared data set '{asked['dataset']}'. Available: {', '.join(available())}."
            ]
    except FerError as error:
        state.notices = [str(error)]


def _fill_from_run(state: TrainState, store: RunStore, run_id: str) -> None:
    run = store.get(run_id)
    if run.config is None:
        raise ConfigError(f"The settings of run '{run_id}' are damaged, so it cannot be cloned.")
    if run.members:
        raise ConfigError(
            f"'{run_id}' is an ensemble, which is not trained. Clone one of its members: {', '.join(run.members)}."
        )
    base = flatten(run.config)
    _fill(state, run.recipe if run.recipe in RECIPES else "baseline", base, base)
    state.origin = run.name
    if run.data_name not in available():
        state.values["data.name"] = None
        state.notices = [
            f"'{run.name}' was trained on '{run.data_name}', which is not prepared here. Choose another data set."
        ]
    elif run.config.data.val_fraction is None and run.fingerprint not in ("", load_head(run.data_name)["fingerprint"]):
        state.notices = [
            f"The data set '{run.data_name}' here is not the one that '{run.name}' learned from, so a run on it gets no verdict "
            "against that one; Data says what it holds."
        ]


def _change(state: TrainState, assignments: Iterable[str]) -> None:
    """Settings from the URL, checked as the command line checks them. Raises ConfigError."""
    known = {p: v for p, v in state.values.items() if p != "data.name"}
    changed = flatten(with_settings(Config(), {**known, **parse_assignments(assignments)}))
    state.values = {**changed, "data.name": state.values["data.name"]}


def _choose(state: TrainState) -> None:
    left, right = st.columns(2)
    st.session_state.setdefault("train-recipe", state.recipe)
    left.selectbox(
        "Recipe",
        list(RECIPES),
        format_func=lambda name: RECIPES[name].title,
        key="train-recipe",
        on_change=_recipe_chosen,
        help="A named set of settings. Your own changes are kept, except to what the new recipe is about.",
    )
    names = available()
    if state.values["data.name"] not in names:
        state.values["data.name"], state.ask_data = None, True
    st.session_state.setdefault("train-data", state.values["data.name"])
    state.values["data.name"] = right.selectbox(
        "Data set",
        names,
        index=None if state.ask_data else 0,
        key="train-data",
        placeholder="Choose a data set",
        format_func=lambda name: f"{name} (built in, synthetic)" if name == SAMPLE else name,
        help="What is prepared on the Data page, and the sample faces drawn by FER Lab.",
    )
    st.caption(plain(RECIPES[state.recipe].summary))


def _measured(state: TrainState, runs: Sequence[Run], changes: Iterable[str]) -> None:
    """What the recipe has brought in the runs that are here, beside the baseline; changes: what the visitor set otherwise."""
    found = recipe_results(state.recipe, runs, state.values["data.name"])
    if found is None:
        return
    group, baseline = found
    against = f"; the baseline {result_in_words(baseline)}" if baseline else ""
    epochs = group.runs[0].epochs
    on = f"n {plain(group.runs[0].data_name)}, {epochs} epochs"
    where = f"Without your changes, o{on}" if set(changes) - {"data.name", "seed"} else f"O{on}"
    said = f"{where}: best val top-1 **{result_in_words(group)}**{against}."
    ids = [r.id for g in (group, baseline) if g for r in g.runs]
    st.caption(said.replace(" %", "\u00a0%"))
    st.page_link(
        "pages/compare.py",
        label="Compare with the baseline" if baseline else "See the curves",
        icon=":material/stacked_line_chart:",
        query_params=[("run", i) for i in ids],
        help="On Compare: the curves and, against the baseline, whether the difference is more than chance.",
    )


def _recipe_chosen() -> None:
    state: TrainState = st.session_state["train"]
    recipe = get_recipe(st.session_state["train-recipe"])
    base = {**flatten(recipe.config()), "data.name": state.values["data.name"]}
    _fill(state, recipe.name, base, {**base, **carried(state, recipe.changes)})
    _forget_url("clone", "set")
    st.query_params["recipe"] = recipe.name
    state.asked = _asked()


def carried(state: TrainState, recipe_changes: Iterable[str]) -> dict[str, Any]:
    """The visitor's own changes that outlive a change of recipe: all but those in a section the new recipe sets."""
    taken = {path.split(".")[0] for path in recipe_changes}
    old = flatten(get_recipe(state.recipe).config())
    return {
        p: v for p, v in state.values.items() if v != old[p] and p.split(".")[0] not in taken and used(p, state.values)
    }


def _section(state: TrainState, section: str, skip: Iterable[str]) -> list[str]:
    return [p for p in SETTINGS if p.split(".")[0] == section and p not in skip and used(p, state.values)]


def _fields(state: TrainState, paths: Iterable[str]) -> None:
    """The fields of these settings, three a row; one that the field before it rules out is left out."""
    columns: list[Any] = []
    for path in paths:
        if not used(path, state.values):
            continue
        if not columns:
            columns = list(st.columns(_COLUMNS, vertical_alignment="bottom"))
        state.values[path] = _field(columns.pop(0), SETTINGS[path], state.values[path], state.beginnings)


def _field(place: Any, setting: Setting, value: Any, beginnings: Sequence[str]) -> Any:
    key, name = f"set-{setting.path}", label(setting.path)
    bounds = f" Allowed: {setting.bounds}." if setting.bounds else ""
    about = f"{plain(setting.help + bounds)} Setting: `{setting.path}`"
    st.session_state.setdefault(key, float(value) if setting.kind is float and value is not None else value)
    if setting.choices:
        return place.selectbox(name, setting.choices, key=key, help=about)
    if setting.kind is bool:
        return place.checkbox(name, key=key, help=about)
    if setting.path == "model.from_run":
        return place.selectbox(name, beginnings, index=None, placeholder="none", key=key, help=about)
    empty = {"value": None, "placeholder": "none"} if setting.optional else {}
    if setting.kind is str:
        return place.text_input(name, key=key, help=about, **empty)
    step, shape = (1, "%d") if setting.kind is int else (_float_step(setting), "%.8g")
    return place.number_input(name, step=step, format=shape, key=key, help=about, **empty)


def _float_step(setting: Setting) -> float:
    return _STEPS.get(setting.path) or (0.05 if setting.maximum is not None and setting.maximum <= 1 else 1.0)


def _read(state: TrainState) -> Form:
    values = {p: v if used(p, state.values) else _unused(p, state) for p, v in state.values.items()}
    try:
        if values["data.name"] is None:
            raise ConfigError("Choose a data set first.")
        config = with_settings(Config(), values)
    except ConfigError as error:
        return Form(state.recipe, None, str(error), {})
    return Form(state.recipe, config, "", changes_from(state.recipe, config))


def _unused(path: str, state: TrainState) -> Any:
    """The value of a setting that is not shown: the recipe's, or the usual one where it was for the recipe's network."""
    for_its_network = USED_WITH[path][0] == "model.name" and used(path, state.base)
    return SETTINGS[path].default if for_its_network else state.base[path]


def _differences(state: TrainState, form: Form) -> None:
    if form.problem:
        st.error(explain(form.problem), icon=":material/error:")
    recipe = flatten(get_recipe(state.recipe).config())
    own = [
        f"{label(p)} {plain(shown_value(recipe[p]))} → **{plain(shown_value(v))}**"
        for p, v in form.changes.items()
        if p != "data.name"
    ]
    origin = f"Filled from run **{plain(state.origin)}**. " if state.origin else ""
    title = RECIPES[state.recipe].title
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if own:
            st.markdown(f"{origin}Changed from *{title}*: {', '.join(own)}.", width="stretch")
        elif not form.problem:
            st.caption(f"{origin}All settings as in the recipe *{title}*.", width="stretch")
        if own or form.problem:
            st.button(
                "Reset",
                icon=":material/restart_alt:",
                key="reset",
                on_click=_reset,
                help="Back to the recipe's settings.",
            )


def _reset() -> None:
    state: TrainState = st.session_state["train"]
    base = {**flatten(get_recipe(state.recipe).config()), "data.name": state.values["data.name"]}
    _fill(state, state.recipe, base, base)
    _forget_url("clone", "set")
    state.asked = {**state.asked, "clone": None, "set": None}
