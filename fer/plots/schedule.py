"""Learning-rate schedules as curves."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from fer.config import Config
from fer.plots.style import run_colours, styled
from fer.schedules import lr_at

_POINTS = 600
_DASHES = ("solid", "dash", "dot", "dashdot")


def curve(config: Config, steps_per_epoch: int) -> tuple[list[float], list[float]]:
    """Epochs done, 0 to the run's epochs, and the learning rate at that moment; at most about 1,200 points.

    Every epoch's first and last step is among them where the run has at most 600 epochs, so that a cut looks like one.
    A plateau schedule is drawn as if validation loss always improved.
    """
    total = config.train.epochs * steps_per_epoch
    stride = max(1, total // _POINTS)
    steps = set(range(0, total, stride)) | {total - 1}
    if config.train.epochs <= _POINTS // 2:
        firsts = range(0, total, steps_per_epoch)
        steps |= {*firsts, *(s - 1 for s in firsts if s)}
    ordered = sorted(steps)
    rates = [lr_at(config, step, steps_per_epoch) for step in ordered]
    return [step / steps_per_epoch for step in ordered] + [float(config.train.epochs)], [*rates, rates[-1]]


def lr_curves(
    configs: Mapping[str, tuple[str, Config]], steps_per_epoch: Mapping[str, int], *, dark: bool
) -> go.Figure:
    """The learning rate of each run over its epochs.

    configs: `{label: (recipe, config)}`; steps_per_epoch: by the same labels. A plateau schedule is dashed, since it
    follows the validation loss.
    """
    figure = go.Figure()
    colours = run_colours([recipe for recipe, _ in configs.values()])
    for i, ((label, (_, config)), colour) in enumerate(zip(configs.items(), colours, strict=True)):
        epochs, rates = curve(config, steps_per_epoch[label])
        dash = (
            "dash" if config.schedule.name == "plateau" else _DASHES[i % len(_DASHES)] if len(configs) > 1 else "solid"
        )
        figure.add_scatter(
            x=epochs,
            y=rates,
            name=label,
            mode="lines",
            line={"color": colour, "width": 2.5, "dash": dash},
            hovertemplate="epoch %{x:.1f}: %{y:.3g}<extra>" + label + "</extra>",
        )
    several = len(configs) > 1
    below = 28 + 24 * len(configs) if several else 0
    styled(figure, dark=dark, height=250 + below, legend=several)
    figure.update_layout(margin={"t": 10, "b": 44 + below, "l": 8, "r": 12}, dragmode=False)
    figure.update_layout(legend={"orientation": "v", "yref": "container", "y": 0, "yanchor": "bottom"})
    figure.update_xaxes(title_text="epoch", rangemode="tozero", fixedrange=True)
    figure.update_yaxes(rangemode="tozero", exponentformat="power", tickformat=".2~g", fixedrange=True)
    return figure
