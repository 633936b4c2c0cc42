"""Evaluate: where a network is right and where it is wrong."""

from fer.ui import evaluate as parts
from fer.ui.frame import frame
from fer.ui.parts import empty

with frame("evaluate") as (store, everything):
    choice = parts.choose(everything)
    if choice:
        parts.show(store, choice)
    else:
        empty(
            "**There is no network to look into yet.** Train one; it is evaluated when it ends, and its mistakes are shown here.",
            "pages/train.py",
            "Train a network",
            ":material/play_circle:",
        )
