"""The pages over stores full of damaged run folders: no page fails, and each folder is in the list, named as damaged."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from fer import jobs
from fer.runs import RunStore
from fer.ui.compare import MAX_RUNS
from fer.ui.frame import plain
from tests.app.conftest import said
from tests.mutations import FILES, MUTATIONS

KINDS = list(product(FILES, MUTATIONS))
SEEDS = 3
COMMON = ("config.json", "status.json", "metrics.jsonl", "notes.json")
READ_BY = {
    "runs": (*COMMON, "model.json", "train.log"),
    "evaluate": (*COMMON, "report.json", "logits-val.npz", "best.safetensors"),
    "predict": ("config.json", "report.json", "logits-val.npz", "best.safetensors"),
}
# What is no JSON any more, or another file's: whatever stood there, the list must say so.
SURELY = [(name, kind) for name in ("config.json", "status.json") for kind in ("truncated", "swapped")]


@pytest.fixture
def damaged(store: RunStore, small: Path, tiny, monkeypatch) -> Callable[..., dict[str, tuple[str, str]]]:
    """`damage(seed, kinds)`: a copy of a finished run for each kind, one of its files mutated; `{run id: (file, kind)}`."""
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)

    def damage(seed: int, kinds: Sequence[tuple[str, Callable[..., bytes]]]) -> dict[str, tuple[str, str]]:
        rng, damages = random.Random(seed), {}
        shutil.copytree(small / "done", store.root / "whole")
        store.annotate("whole", name="whole", tags=["t"])
        (store.root / "whole" / "train.log").write_text("epoch 1/2  lr 0.001\nfinished\n")
        whole = {name: (store.root / "whole" / name).read_bytes() for name in FILES}
        for number, (name, mutate) in enumerate(kinds):
            run_id = f"m{number:02}"
            shutil.copytree(store.root / "whole", store.root / run_id)
            store.annotate(run_id, name=f"Run {run_id}")
            others = [whole[other] for other in FILES if other != name]
            (store.root / run_id / name).write_bytes(mutate((store.root / run_id / name).read_bytes(), rng, others))
            damages[run_id] = (name, mutate.__name__)
        return damages

    return damage


def whole(at: AppTest) -> None:
    assert not at.exception, at.exception[0].stack_trace


def listed(at: AppTest) -> dict[str, str]:
    """`{run as the table calls it: its state}`."""
    tables = [d.value for d in at.dataframe if {"run", "state"} <= set(d.value)]
    rows = pd.concat(tables)
    return dict(zip(rows["run"], rows["state"], strict=True))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_damaged_folder_is_listed_and_no_page_fails(open_page, store, damaged, seed) -> None:
    """96 folders a seed, every kind twice."""
    damages = damaged(seed, KINDS * 2)
    at = open_page("runs", archived="1")
    whole(at)
    states = listed(at)
    runs = {r.id: r for r in store.runs(archived=True)}
    assert runs.keys() - damages == {"whole"}
    for run_id, (name, kind) in damages.items():
        run = runs[run_id]
        assert name == "notes.json" or run.name == f"Run {run_id}"
        marked = "damaged" in states[run.name] or "broken" in states[run.name]
        assert marked == bool(run.problems), (run_id, name, kind, states[run.name])
        assert marked or (name, kind) not in SURELY
    assert states["whole"].endswith("finished")
    for page in ("home", "train", "compare", "evaluate", "predict"):
        whole(open_page(page))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_damaged_folders_are_compared_and_named(open_page, store, damaged, seed) -> None:
    """32 folders a seed."""
    ids = list(damaged(seed, (KINDS * 2)[seed::SEEDS]))
    for start in range(0, len(ids), MAX_RUNS - 1):
        chosen = ids[start : start + MAX_RUNS - 1]
        at = open_page("compare", run=["whole", *chosen])
        whole(at)
        assert all(plain(p).replace("\\", "") in said(at) for i in chosen for p in store.get(i).problems)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_each_kind_of_damage_is_opened_by_itself_on_the_pages_that_read_the_file(
    open_page, store, damaged, seed
) -> None:
    """A third of the 48 kinds a seed."""
    for run_id, (name, _kind) in damaged(seed, KINDS[seed::SEEDS]).items():
        for page in (page for page, files in READ_BY.items() if name in files):
            at = open_page(page, run=run_id, archived="1", **{"from": "Example faces"})
            whole(at)
            if page == "runs":
                assert all(f"Damaged: {plain(p)}".replace("\\", "") in said(at) for p in store.get(run_id).problems)
