"""Home: what this is, the best runs so far, what is running, where to go next."""

import streamlit as st

from fer.runs import by_merit
from fer.ui import home
from fer.ui.frame import frame
from fer.ui.loaders import shown
from fer.ui.parts import empty

with frame("home") as (_, everything):
    runs = shown(everything)
    trained = by_merit(runs)
    if trained:
        left, right = st.columns([2, 3], gap="large")
        with left:
            home.best_run(trained)
            home.running(runs)
        with right:
            home.best_experiments(trained)
    else:
        empty(
            "**No run has finished an epoch yet.** Train a first network; on the built-in sample faces it takes a minute or two.",
            "pages/train.py",
            "Train a network",
            ":material/play_circle:",
        )
        home.running(runs)
    home.next_steps(runs)
