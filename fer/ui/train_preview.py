"""What the Train page shows of the runs it would launch: the learning rate, the network, and the command line."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from fer.cluster import Ask
from fer.config import Config, ModelConfig, differing
from fer.errors import FerError
from fer.jobs import command_lines
from fer.plots.network import network_alt, network_picture, unseen
from fer.plots.schedule import lr_curves
from fer.recipes import RECIPES
from fer.ui.augmented import augmented_batch, is_augmented
from fer.ui.frame import dark, plain
from fer.ui.launch import Plan
from fer.ui.loaders import await_core_json, core_json_soon, load_dataset, remembered
from fer.ui.parts import chart, table
from fer.ui.train_form import label, shown_value

_MAX_CURVES = 6
_NO_LAYERS = {"pretrained", "weights", "from_run"}  # settings of a network that change nothing in its layers


def schedule(plan: Plan) -> None:
    """The learning rate over the run, one curve for each schedule in the plan."""
    st.subheader("Learning rate", anchor=False)
    if not plan:
        st.caption("The curve appears here when the settings are right.")
        return
    try:
        curves, steps = _curves(plan)
    except FerError as error:
        st.warning(plain(str(error)), icon=":material/warning:")
        return
    shown = dict(list(curves.items())[:_MAX_CURVES])
    chart(lr_curves(shown, steps, dark=dark()), key="schedule", alt=_schedule_alt(shown))
    if len(curves) > len(shown):
        st.caption(f"The first {len(shown)} of {len(curves)} different curves.")
    for config in [c for _, c in shown.values() if c.schedule.name == "plateau"][:1]:
        st.caption(
            f"Reduce on plateau depends on how validation loss goes: the rate is multiplied by {config.schedule.factor:g} each time it "
            f"has not improved for more than {config.schedule.patience} epochs. The dashed line is the rate without such a cut."
        )
    for text in {_of_a_backbone(config): None for _, config in plan}:
        if text:
            st.caption(text)


def network(plan: Plan) -> None:
    """The network as a picture with shapes and parameters, and its layer table."""
    st.subheader("Network", anchor=False)
    models = {_model_name(config): config for _, config in plan}
    if not models:
        st.caption("The network appears here when the settings are right.")
        return
    name = next(iter(models))
    if len(models) > 1:
        name = (
            st.segmented_control("Network", list(models), default=name, required=True, label_visibility="collapsed")
            or name
        )
    config = models[name].model
    settings = [f"model.{name}={value}" for name, value in config.model_dump(mode="json", exclude=_NO_LAYERS).items()]
    arguments = ("cost", "--no-measure", "--dataset", "sample", *(part for s in settings for part in ("--set", s)))
    try:
        answer = core_json_soon(*arguments)
    except FerError as error:
        st.warning(plain(str(error)), icon=":material/warning:")
        return
    if answer:
        _draw_network(answer["model"])
    else:
        await_core_json("Working out the layers.", *arguments)


def augmentation(plan: Plan) -> None:
    """Pictures of the first run's augmentation, where there is any."""
    config = next((config for _, config in plan if is_augmented(config)), None)
    if config is None:
        return
    st.subheader("What training sees", anchor=False)
    augmented_batch(config)


def commands(plan: Plan, on_ray: Ask | None) -> None:
    """The command lines that do the same; on_ray: what is asked of a Ray cluster, None on this machine."""
    st.markdown("**The same from the command line**")
    if not plan:
        st.caption("The command appears here when there is something to launch.")
        return
    lines = command_lines(plan, on_ray)
    st.code("\n".join(lines), language="bash", wrap_lines=True)
    if on_ray or "--queue" not in lines[0]:
        foreground = ""
    else:
        foreground = " Without `--queue` it trains in the terminal and shows its progress there."
    st.caption(f"In the project's folder, run `source .venv/bin/activate` first, once in each terminal.{foreground}")


def _curves(plan: Plan) -> tuple[dict[str, tuple[str, Config]], dict[str, int]]:
    """`{label: (recipe, config)}` and steps an epoch by label; runs with the same curve share one."""
    differ = differing([config for _, config in plan])
    recipes = {recipe for recipe, _ in plan}
    found: dict[tuple[Any, ...], tuple[list[str], str, Config, int]] = {}
    for i, (recipe, config) in enumerate(plan):
        steps = _steps_per_epoch(config)
        title = RECIPES[recipe or "baseline"].title
        values = [
            f"{label(p).lower()} {shown_value(v[i])}"
            for p, v in differ.items()
            if p.startswith(("optim.lr", "schedule.", "train."))
        ]
        name = title if len(recipes) > 1 or not values else ", ".join(values)
        entry = found.setdefault(
            (config.schedule, config.optim.lr, config.train.epochs, steps), ([], recipe or "baseline", config, steps)
        )
        if name not in entry[0]:
            entry[0].append(name)
    labels = {key: ", ".join(names) for key, (names, *_) in found.items()}
    return (
        {labels[k]: (recipe, config) for k, (_, recipe, config, _) in found.items()},
        {labels[k]: steps for k, (*_, steps) in found.items()},
    )


def _of_a_backbone(config: Config) -> str:
    """What the curve does not show of a network with a backbone; '' where nothing."""
    decay, frozen = config.optim.layer_decay, config.train.freeze_epochs
    said = [f"This is the rate of the last layer; each stage before it learns at {decay:g} times the next one's."]
    said = said if decay != 1 else []
    if frozen:
        said.append(f"In the first {f'{frozen} epochs' if frozen > 1 else 'epoch'} only the last layer learns.")
    return " ".join(said)


def _steps_per_epoch(config: Config) -> int:
    data = load_dataset(config.data.name).with_val_fraction(config.data.val_fraction)
    return math.ceil(len(data.indices("train")) / config.train.batch_size)


def _schedule_alt(curves: dict[str, tuple[str, Config]]) -> str:
    parts = [
        f"{name}: {c.schedule.name} schedule from a learning rate of {c.optim.lr:g} over {c.train.epochs} epochs"
        for name, (_, c) in curves.items()
    ]
    return "Learning rate by epoch. " + "; ".join(parts) + "."


def _model_name(config: Config) -> str:
    """The network and what of it is not as usual, short enough for a button."""
    model, usual = config.model, ModelConfig()
    own = [
        f"{label(f'model.{name}').lower()} {shown_value(value)}"
        for name, value in model.model_dump().items()
        if name not in ("name", "channels", *_NO_LAYERS) and value != getattr(usual, name)
    ]
    return ", ".join([model.name, *(["grey"] if model.channels == "grey" else []), *own])


def _draw_network(model: dict[str, Any]) -> None:
    parameters, multiply_adds, size = st.columns(3)
    parameters.metric("Parameters", f"{model['num_params']:,}")
    multiply_adds.metric("Multiply-adds a picture", f"{model['multiply_adds'] / 1e6:,.1f} million")
    size.metric(
        "Weights on disk",
        f"{4 * model['num_params'] / 1e6:,.1f} MB",
        help="32-bit floating point, once. A run keeps its best and its last weights and what it needs to go on: four to six times this.",
    )
    if about := " ".join(filter(None, (model.get("description"), unseen(model)))):
        st.caption(plain(about))
    picture = remembered(("network", repr(model), dark()), lambda: network_picture(model, dark=dark()))
    chart(picture, key="network", alt=network_alt(model))
    st.caption(
        "At each box: what it does, its output as channels x height x width, and its parameters. A box is as high as the map and as wide as the number of channels asks."
    )
    with st.expander("All layers"):
        rows = [
            {
                "layer": x["name"],
                "kind": x["kind"],
                "what": x["detail"],
                "output shape": "x".join(map(str, x["output_shape"])),
                "parameters": x["num_params"],
                "multiply-adds": x["multiply_adds"],
            }
            for x in model["layers"]
        ]
        numbers = {c: st.column_config.NumberColumn(format="localized") for c in ("parameters", "multiply-adds")}
        table(rows, column_config=numbers)
