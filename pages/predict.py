"""Predict: what the faces in a photo look like to a trained network."""

import streamlit as st

from fer.ui import predict as parts
from fer.ui.frame import frame
from fer.ui.parts import empty

with frame("predict") as (store, everything):
    runs, tta = parts.choose_runs(everything)
    if runs:
        parts.what_it_learned(runs[0], tta=tta)
        source = parts.choose_source()
        photos = parts.receive(source) if source != "Example faces" else []
        asked = bool(photos) or source == "Example faces"  # torch and the network are loaded for a question, not before
        predictors = parts.load_predictors(store, runs, tta=tta) if asked else []
        answers = parts.judge(predictors, photos)
        if predictors:
            parts.price(predictors[0])
        if predictors and photos:
            parts.show_all(predictors, photos, answers)
            parts.results(answers, predictors[0].classes, runs[0])
        elif predictors:
            parts.examples(predictors)
        else:
            parts.invite(source)
        st.space("small")
        parts.responsible_use(runs[0])
    else:
        empty(
            "**There is no trained network to ask yet.** Train one; on the built-in sample faces it takes a minute or two.",
            "pages/train.py",
            "Train a network",
            ":material/play_circle:",
        )
