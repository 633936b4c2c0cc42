"""Runs: what is happening now, and everything that was trained before."""

import streamlit as st

from fer.ui import runs as parts
from fer.ui.frame import frame
from fer.ui.parts import empty

with frame("runs") as (store, everything):
    parts.serve_queue(store, everything)
    wanted = parts.switches(everything)
    runs = parts.ordered(wanted(everything))
    if runs:
        parts.live_table(store, runs, wanted)
    if chosen := parts.pick(runs, everything):
        parts.live_details(store, chosen)
    else:
        empty(
            "**There are no runs here.** Launch one: it trains in the background and appears here at once.",
            "pages/train.py",
            "Launch a training",
            ":material/play_circle:",
        )
    parts.trash(store)
    st.caption(f"Run store: `{store.root}`")
