"""Training pictures before and after augmentation, drawn by a process of its own, so that the page need not load torch."""

from __future__ import annotations

import base64

import streamlit as st

from fer.config import AugmentConfig, Config
from fer.errors import FerError
from fer.ui.frame import plain
from fer.ui.loaders import await_core_json, core_json_soon


def is_augmented(config: Config) -> bool:
    """Whether training changes its pictures at all."""
    return config.augment != AugmentConfig()


def augmented_batch(config: Config) -> None:
    """A picture of each class as it is, and three times as a network would see it in training."""
    content = config.augment.model_dump(mode="json")
    settings = [f"augment.{name}={'none' if value is None else value}" for name, value in content.items()]
    if config.augment.crop:
        settings.insert(0, f"model.name={config.model.name}")  # only some networks take windows
    fraction = config.data.val_fraction
    settings.append(f"data.val_fraction={'none' if fraction is None else fraction}")
    arguments = ("augment", "--recipe", "baseline", "--dataset", config.data.name, "--seed", str(config.seed))
    arguments += tuple(part for setting in settings for part in ("--set", setting))
    try:
        answer = core_json_soon(*arguments)
    except FerError as error:
        st.warning(plain(str(error)), icon=":material/warning:")
        return
    if answer is None:
        await_core_json("Drawing the pictures.", *arguments)
        return
    st.image(base64.b64decode(answer["png"]))
    st.caption("First row: one training picture of each class. Below: what three training steps could make of it.")
