"""Predict: what the faces in a photo look like to a trained network."""

import streamlit as st

from fer.ui import predict as parts
from fer.ui.frame import frame
from fer.ui.parts import empty

with frame("predict") as (store, everything):
    run = parts.choose_run(everything)
    if run:
        parts.what_it_learned(run)
        source = parts.choose_source()
        photos = parts.receive(source) if source != "Example faces" else []
        asked = bool(photos) or source == "Example faces"  # torch and the network are loaded for a question, not before
        predictor = parts.load_predictor(store, run) if asked else None
        answers = parts.judge(predictor, photos)
        if predictor and photos:
            for number, (photo, answer) in enumerate(zip(photos, answers, strict=True)):
                parts.show(photo, answer, number)
            parts.results(answers, predictor.classes, run)
        elif predictor:
            parts.examples(predictor)
        else:
            parts.invite(source)
        st.space("small")
        parts.responsible_use()
    else:
        empty(
            "**There is no trained network to ask yet.** Train one; on the built-in sample faces it takes a minute or two.",
            "pages/train.py",
            "Train a network",
            ":material/play_circle:",
        )
