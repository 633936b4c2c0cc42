"""The parts of the Home page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fer.experiments import Group, best_top1, leading, several
from fer.plots.overview import best_bars
from fer.recipes import STUDY
from fer.runs import ACTIVE, Run, by_merit
from fer.ui.frame import dark, plain
from fer.ui.parts import chart, data_notes, percent, recipe_title, state_badge

_LEADERS = 6


def leaders(runs: Sequence[Run]) -> list[Run]:
    """The runs of the first screen, best first: those trained on photographs, else those on drawn faces."""
    ranked = by_merit(runs)
    return [r for r in ranked if not r.synthetic] or ranked


def best_experiments(runs: Sequence[Run]) -> None:
    """The experiments of the best runs as bars, seeds together."""
    best = leaders(runs)
    found = leading(best, _LEADERS)
    alone = all(len(g.measured) == 1 for g in found)
    st.subheader("The best runs" if alone else "The best experiments", anchor=False)
    chart(best_bars(found, dark=dark()), key="best", alt=best_alt(found))
    data_notes([r for g in found for r in g.runs])


def best_run(runs: Sequence[Run]) -> None:
    """The best run's figures, and links to what one does with it."""
    run = leaders(runs)[0]
    best, last = run.best, run.last
    if best is None or last is None:
        return
    with st.container(border=True):
        st.caption("Best run so far")
        st.subheader(plain(run.name), anchor=False)
        st.caption(
            f"{recipe_title(run)}, trained on {plain(run.data_name)}{' (synthetic faces)' if run.synthetic else ''}"
        )
        first, second = st.columns(2)
        first.metric(
            "Best val top-1",
            percent(best["val_top1"], 1),
            help="The share of validation pictures whose most probable class is the labelled one, in the best epoch.",
        )
        if run.members:
            second.metric("Networks together", len(run.members))
        else:
            second.metric("At epoch", f"{best['epoch']} of {run.epochs}")
        gap = 100 * (last["train_top1"] - last["val_top1"])
        if gap > 10 and not run.members:
            st.caption(
                f"After the last epoch it knows {percent(last['train_top1'], 1)} of its training pictures and {percent(last['val_top1'], 1)} of new ones: a gap of {gap:.0f} points, so it overfits."
            )
        with st.container(horizontal=True):
            st.page_link(
                "pages/evaluate.py", label="Where is it wrong?", icon=":material/grid_on:", query_params={"run": run.id}
            )
            st.page_link(
                "pages/predict.py",
                label="Try it on a photo",
                icon=":material/add_a_photo:",
                query_params={"run": run.id},
            )


def running(runs: Sequence[Run]) -> None:
    """What trains or waits now; nothing where nothing does."""
    active = [r for r in runs if r.state in ACTIVE]
    for run in active[:4]:
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{plain(run.name)}**")
                state_badge(run.state)
            doing = f"epoch {min(len(run.metrics) + 1, run.epochs)} of {run.epochs}"
            st.progress(run.progress, text="its members answer together" if run.members else doing)
    if active:
        st.page_link("pages/runs.py", label="Watch the runs", icon=":material/monitoring:")


def best_alt(found: Sequence[Group]) -> str:
    """The bars in words."""
    return "Best validation top-1: " + ", ".join(
        f"{g.label} {percent(best_top1(g), 1)}" + (f" ({several(g)})" if several(g) else "") for g in found
    )


def next_steps(runs: Sequence[Run]) -> None:
    """Three things to do next."""
    st.subheader("What next", anchor=False)
    study = [r.id for r in runs if r.id in STUDY]
    steps = (
        (
            "pages/compare.py",
            "Compare the study's four" if study else "Compare runs",
            ":material/stacked_line_chart:",
            "See which change helped: learning-rate decay and grouped convolution against the baseline, curve by curve.",
        ),
        (
            "pages/train.py",
            "Launch a training",
            ":material/play_circle:",
            "Pick a recipe, change a setting, launch. It goes on when you close this page.",
        ),
        (
            "pages/predict.py",
            "Try a photo",
            ":material/add_a_photo:",
            "Upload a photo and see what its faces look like to a network, and how sure it is.",
        ),
    )
    for column, (script, label, icon, text) in zip(st.columns(3), steps, strict=True):
        with column, st.container(border=True):
            st.page_link(script, label=f"**{label}**", icon=icon)
            st.caption(text)
