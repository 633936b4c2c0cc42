"""Train: choose a recipe, change settings, see what they cost, launch."""

import streamlit as st

from fer.ui import train_preview
from fer.ui.frame import frame
from fer.ui.launch import launch_card
from fer.ui.train_form import open_form, settings_form

with frame("train") as (store, runs):
    state = open_form(store)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        form = settings_form(state, runs)
    with right:
        plan = launch_card(store, runs, state, form)
        train_preview.schedule(plan or form.runs)
        train_preview.augmentation(plan or form.runs)
        train_preview.commands(plan, state.on_ray)
    train_preview.network(plan or form.runs)
