"""Runs: what is happening now, and everything that was trained before."""

import streamlit as st

from fer.ui import runs as parts
from fer.ui.frame import frame
from fer.ui.loaders import all_runs
from fer.ui.parts import empty

with frame("runs") as store:
    parts.serve_queue(store)
    archived = parts.archive_switch(store)
    runs = parts.ordered(all_runs(store, archived=archived))
    if runs:
        parts.live_table(store, archived)
        parts.live_details(store, parts.pick(runs))
    else:
        empty(
            "**There are no runs here.** Launch one: it trains in the background and appears here at once.",
            "pages/train.py",
            "Launch a training",
            ":material/play_circle:",
        )
    st.caption(f"Run store: `{store.root}`")
