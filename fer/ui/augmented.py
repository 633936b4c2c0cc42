"""Training pictures before and after augmentation, drawn by a process of its own, so that the page need not load torch."""

from __future__ import annotations

import base64

import streamlit as st

from fer.config import AugmentConfig, Config
from fer.errors import FerError
from fer.ui.frame import plain
from fer.ui.loaders import core_json_ready, core_json_soon

_ASK_AGAIN_SECONDS = 0.5


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
        _await(arguments)
        return
    st.image(base64.b64decode(answer["png"]))
    st.caption("First row: one training picture of each class. Below: what three training steps could make of it.")


@st.fragment(run_every=_ASK_AGAIN_SECONDS)
def _await(arguments: tuple[str, ...]) -> None:
    st.caption(":material/hourglass_top: Drawing the pictures.")
    if core_json_ready(*arguments):
        st.rerun()
