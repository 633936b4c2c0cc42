"""Runs with each other: names, what can be compared, and groups of seeds."""

from __future__ import annotations

from fer.experiments import by_data, groups, labels
from fer.runs import RunStore
from tests.made_runs import write_run


def test_names_are_told_apart_by_id(store: RunStore) -> None:
    runs = [write_run(store, i, [{}], notes={"name": n}) for i, n in (("a", "try"), ("b", "try"), ("c", "other"))]
    assert labels(runs) == ["try (a)", "try (b)", "other"]


def test_runs_of_one_config_are_one_group_whatever_their_seed_and_device(store: RunStore) -> None:
    runs = [write_run(store, f"s{s}", [{}], seed=s, runtime__threads=s + 1) for s in (2, 0, 1)]
    runs.insert(1, write_run(store, "other", [{}], optim__lr=0.01))
    found = groups(runs)
    assert [(g.label, [r.id for r in g.runs], g.seeds, g.n) for g in found] == [
        ("baseline", ["s0", "s1", "s2"], (0, 1, 2), 3),
        ("other", ["other"], (0,), 1),
    ]
    assert [len(g.runs) for g in groups(runs, single=True)] == [1, 1, 1, 1]


def test_data_that_changed_makes_another_group(store: RunStore) -> None:
    runs = [write_run(store, "a", [{}]), write_run(store, "b", [{}], seed=1, fingerprint="e" * 32)]
    assert len(groups(runs)) == len(by_data(runs)) == 2


def test_a_group_says_what_it_changed_of_its_recipe(store: RunStore) -> None:
    pairs = [("a", {"optim__lr": 0.01}), ("b", {"optim__lr": 0.01, "train__batch_size": 32, "augment__flip": True})]
    runs = [write_run(store, f"{i}{s}", [{}], seed=s, **c) for i, c in pairs for s in (0, 1)]
    assert [g.label for g in groups(runs)] == ["baseline", "baseline, augment.flip=True, train.batch_size=32"]
    runs += [write_run(store, f"c{s}", [{}], seed=s) for s in (0, 1)]
    assert [g.label for g in groups(runs)][::2] == ["baseline, optim.lr=0.01", "baseline"]
    assert groups(runs)[1].label == "baseline, augment.flip=True, optim.lr=0.01, 1 more"
    assert groups(runs[:2])[0].label == "baseline, optim.lr=0.01, train.epochs=1"


def test_a_seed_counts_once_and_the_finished_run_speaks_for_it(store: RunStore) -> None:
    write_run(store, "new", [{}], state="stopped", created=3e9, train__epochs=2)
    write_run(store, "done", [{}, {}], state="finished", created=1e9, train__epochs=2)
    (group,) = groups(store.runs())
    assert {seed: run.id for seed, run in group.by_seed.items()} == {0: "done"}
    assert len(group.runs) == 2


def test_broken_runs_are_left_out(store: RunStore) -> None:
    (store.root / "torn").mkdir()
    assert groups(store.runs()) == []
