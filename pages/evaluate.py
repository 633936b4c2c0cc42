"""Evaluate: where a network is right and where it is wrong."""

import streamlit as st

from fer.ui import evaluate as parts
from fer.ui.frame import frame
from fer.ui.parts import empty

with frame("evaluate") as (store, everything):
    run, name, split = parts.choose(everything)
    if run:
        report = parts.report_for(store, run, name, split)
        if report:
            parts.figures(report)
            parts.notes(run, report, name)
            left, right = st.columns(2, gap="medium")
            with left:
                parts.confusion(report)
            with right:
                parts.per_class(report)
                parts.worst(report)
    else:
        empty(
            "**There is no network to look into yet.** Train one; it is evaluated when it ends, and its mistakes are shown here.",
            "pages/train.py",
            "Train a network",
            ":material/play_circle:",
        )
