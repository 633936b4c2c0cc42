"""Home: what this is, the best runs so far, what is running, where to go next."""

import streamlit as st

from fer.plots.overview import best_bars
from fer.runs import by_merit
from fer.ui import home
from fer.ui.frame import dark, frame
from fer.ui.loaders import shown
from fer.ui.parts import chart, data_notes, empty

with frame("home") as (_, everything):
    runs = shown(everything)
    trained = by_merit(runs)
    if trained:
        left, right = st.columns([2, 3], gap="large")
        with left:
            home.best_run(trained)
            home.running(runs)
        with right:
            st.subheader("The best runs", anchor=False)
            leaders = home.leaders(trained)
            chart(best_bars(leaders, dark=dark()), key="best", alt=home.best_alt(leaders))
            data_notes(leaders)
    else:
        empty(
            "**No run has finished an epoch yet.** Train a first network; on the built-in sample faces it takes a minute or two.",
            "pages/train.py",
            "Train a network",
            ":material/play_circle:",
        )
        home.running(runs)
    home.next_steps(runs)
