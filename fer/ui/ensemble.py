"""Making an ensemble of the runs that are being compared."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fer import access
from fer.errors import FerError
from fer.runs import ACTIVE, Run
from fer.ui.frame import plain
from fer.ui.loaders import core_do
from fer.ui.parts import percent

_SECONDS = 1800


def ensemble_form(chosen: Sequence[Run]) -> None:
    """Let the chosen runs answer together: a run of their own, evaluated in a process of its own."""
    if not access.may_change():
        return
    usable = [run for run in chosen if run.has_weights and run.state not in ACTIVE]
    with st.expander("Let the chosen runs answer together", icon=":material/group_work:"):
        st.markdown(
            "An **ensemble** answers with the mean of its members' calibrated probabilities. It is often better than the best of "
            "them, most of all where they differ in more than their seed, and costs the time of all of them at each answer."
        )
        if len(usable) < 2:
            st.caption("Choose at least two runs with weights above; one that still trains cannot be a member.")
            return
        run_id = st.text_input("Id of the ensemble", placeholder="ensemble and four digits", key="ensemble-id")
        if st.button(f"Make an ensemble of {len(usable)}", key="ensemble-make"):
            _make([run.id for run in usable], run_id.strip())
        made = st.session_state.get("ensemble-made")
        if made:
            st.success(
                f"{plain(made['run'])}: val top-1 {percent(made['val_top1'])}. It is in the list of runs now, to be compared, "
                "evaluated and asked like any other.",
                icon=":material/check_circle:",
            )


def _make(members: Sequence[str], run_id: str) -> None:
    st.session_state.pop("ensemble-made", None)
    named = (f"--run-id={run_id}",) if run_id else ()
    try:
        with st.spinner("Evaluating the members together on train and val; a minute or two on a small machine"):
            st.session_state["ensemble-made"] = core_do("ensemble", *members, *named, seconds=_SECONDS)
    except FerError as error:
        st.error(plain(str(error)), icon=":material/error:")
