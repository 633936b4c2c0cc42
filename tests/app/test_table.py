"""Tables: what stands in a row arrives as it is, and no page waits for pandas."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
from streamlit.testing.v1 import AppTest

from tests.app.conftest import ROOT


def drawn() -> None:
    from fer.ui.parts import table

    rows = [
        {"run": "2024-01-01", "top1": 1, "epoch": 3, "comparable": True, "note": None},
        {"run": 'a "b"\n<c>, é', "top1": 0.1, "epoch": None, "comparable": False, "note": None},
    ]
    table(rows, column_order=["run", "top1"])


def test_cells_arrive_as_they_are() -> None:
    found = AppTest.from_function(drawn, default_timeout=60).run().dataframe[0].value
    assert list(found["run"]) == ["2024-01-01", 'a "b"\n<c>, é']
    assert list(found["top1"]) == [1.0, 0.1]
    assert found["epoch"][0] == 3 and pd.isna(found["epoch"][1])
    assert list(found["comparable"]) == [True, False]
    assert found["note"].isna().all()


def test_drawing_a_table_does_not_load_pandas() -> None:
    code = (
        "import logging, sys; logging.disable(); from fer.ui.parts import table; table([{'run': 'a', 'top1': 0.5}])\n"
        "assert 'pandas' not in sys.modules, 'pandas was loaded'\n"
        "import fer.ui.compare, fer.ui.runs, fer.ui.home, fer.ui.data, fer.ui.launch, fer.ui.evaluate\n"
        "loaded = {'pandas', 'scipy', 'torch'} & set(sys.modules)\n"
        "assert not loaded, f'{loaded} loaded with the pages'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
