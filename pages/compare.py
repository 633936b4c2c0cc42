"""Compare: which change helped, by how much, and at what cost."""

from fer.ui import compare
from fer.ui.ensemble import ensemble_form
from fer.ui.frame import frame

with frame("compare") as (store, everything):
    runs = compare.choose(everything)
    if runs:
        compare.show(store, runs, everything)
        ensemble_form(runs)
