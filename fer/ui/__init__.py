"""The dashboard's shared parts: the only place in `fer` that imports Streamlit."""

import gc

# Streamlit collects all garbage after each run of a script. What Python collects of its own accord in between takes a fifth
# of a page's first run, which loads modules and reads the store, and finds nearly nothing.
gc.set_threshold(50_000, 20, 1_000)
