"""The dashboard's shared parts: the only place in `fer` that imports Streamlit."""

import gc

# Figures refer to themselves, so garbage must be looked for; but not as often as Python does, which takes a fifth of a page's first
# run, and not after each run of a script, as Streamlit does where .streamlit/config.toml does not forbid it.
gc.set_threshold(50_000, 10, 5)
