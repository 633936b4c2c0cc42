"""Data: what is in a data set; import another."""

import streamlit as st

from fer.data.dataset import available
from fer.plots.overview import class_counts
from fer.ui import data as parts
from fer.ui.frame import dark, frame, plain
from fer.ui.loaders import load_dataset
from fer.ui.parts import chart

with frame("data"):
    name = parts.pick_dataset(available())
    data = load_dataset(name)
    parts.facts(data)
    counts = data.counts()
    tab_counts, tab_faces, tab_augmented, tab_spec = st.tabs(["Classes", "Pictures", "Augmentation", "Specification"])
    with tab_counts:
        chart(class_counts(counts, dark=dark()), key="counts", alt=parts.counts_alt(counts))
        parts.imbalance(counts)
        parts.counts_table(counts)
    with tab_faces:
        parts.sample_grid(data)
    with tab_augmented:
        parts.augmentation(data)
    with tab_spec:
        parts.specification(data)
    if data.split_note:
        st.caption(f":material/info: {plain(data.split_note)}")
    parts.import_form()
