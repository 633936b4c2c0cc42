"""Runs with each other: names, what can be compared, and groups of seeds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from fer.config import SETTINGS
from fer.experiments import (
    Group,
    band,
    best_top1,
    by_data,
    figures,
    groups,
    labels,
    leading,
    recipe_results,
    result_in_words,
    seeds_last,
    settings_notes,
    settings_rows,
    several,
)
from fer.runs import RunStore, by_merit
from tests.made_runs import FINGERPRINT, write_run


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


def test_seeds_that_have_no_epoch_yet_are_not_counted(store: RunStore) -> None:
    made = [write_run(store, f"s{s}", [{"val_top1": 0.4 + s / 10}], seed=s) for s in (0, 1)]
    made.append(write_run(store, "s2", [], seed=2, state="queued"))
    (group,) = groups(made)
    assert (group.n, [r.id for r in group.measured], several(group)) == (3, ["s0", "s1"], "mean of 2 seeds")
    assert (figures(group)["n"], best_top1(group)) == (2, pytest.approx(0.45))
    (lone,) = groups([made[0], made[2]])
    assert (lone.n, several(lone), figures(lone)["n"]) == (2, "", 1)
    (waiting,) = groups(made[2:])
    assert (waiting.measured, figures(waiting)["n"]) == ((), 0)


def test_an_ensemble_has_no_seed_and_no_epochs(store: RunStore) -> None:
    (group,) = groups([write_run(store, "both", [{"val_top1": 0.6}], members=["a", "b"])])
    row = figures(group)
    assert (group.members, several(group)) == (("a", "b"), "2 networks together")
    assert (row["best_val_top1"], row["total_seconds"]) == (0.6, 20)
    assert (row["n"], row["seeds"], row["best_epoch"], row["epochs_done"], row["epochs_asked"]) == (
        None,
        "",
        *[None] * 3,
    )
    assert row["epoch_seconds_median"] is None


def test_broken_runs_are_left_out(store: RunStore) -> None:
    (store.root / "torn").mkdir()
    assert groups(store.runs()) == []


# --- bands -----------------------------------------------------------------------------------------------------------


def three_seeds(store: RunStore) -> Group:
    """Seeds of 3, 3 and 2 epochs."""
    tops = ([0.3, 0.5, 0.4], [0.4, 0.6, 0.5], [0.2, 0.1])
    rows = [
        [{"val_top1": t, "train_top1": t + 0.1, "epoch_seconds": 10.0 * (s + 1)} for t in ts]
        for s, ts in enumerate(tops)
    ]
    made = [write_run(store, f"s{s}", r, seed=s, train__epochs=3, optim__lr=0.01) for s, r in enumerate(rows)]
    (group,) = groups(made)
    return group


def test_bands_of_unequal_length_say_how_many_runs_are_left(store: RunStore) -> None:
    found = band(three_seeds(store), "val_top1")
    assert found.x == (1.0, 2.0, 3.0)
    assert found.n == (3, 3, 2)
    assert found.mean == pytest.approx((0.3, 0.4, 0.45))
    std = np.std([0.5, 0.6, 0.1], ddof=1)
    assert (found.low[1], found.high[1]) == pytest.approx((0.4 - std, 0.4 + std))


def test_bands_of_other_kinds(store: RunStore) -> None:
    group = three_seeds(store)
    assert (band(group, "val_top1", kind="range").low, band(group, "val_top1", kind="range").high) == (
        (0.2, 0.1, 0.4),
        (0.4, 0.6, 0.5),
    )
    interval = band(group, "val_top1", kind="interval")
    low, high = stats.t.interval(0.95, 2, loc=0.4, scale=stats.sem([0.5, 0.6, 0.1]))
    assert (interval.low[1], interval.high[1]) == pytest.approx((low, high))
    assert band(group, "gap").mean == pytest.approx((0.1, 0.1, 0.1))


def test_bands_over_steps_and_seconds(store: RunStore) -> None:
    group = three_seeds(store)
    assert band(group, "lr", axis="step").x == (10.0, 20.0, 30.0)
    assert band(group, "lr", axis="seconds").x == (20.0, 40.0, 55.0)  # the third epoch: of 10 and 20 s an epoch


def test_wall_time_never_runs_backwards_where_the_slow_seed_ends_first(store: RunStore) -> None:
    for seed, (epochs, seconds) in enumerate(((2, 100.0), (4, 10.0))):
        write_run(store, f"s{seed}", [{"epoch_seconds": seconds}] * epochs, seed=seed, train__epochs=4)
    (group,) = groups(store.runs())
    assert band(group, "val_top1", axis="seconds").x == (55.0, 110.0, 120.0, 130.0)


def test_one_run_has_a_line_and_no_band(store: RunStore) -> None:
    (group,) = groups([write_run(store, "a", [{"val_top1": 0.3}, {"val_top1": 0.4}])])
    found = band(group, "val_top1")
    assert (found.mean, found.low, found.high, found.n) == ((0.3, 0.4), (None, None), (None, None), (1, 1))


def test_runs_without_an_epoch_have_an_empty_band(store: RunStore) -> None:
    (group,) = groups([write_run(store, "a", [], state="queued")])
    assert band(group, "val_loss").x == ()


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_of_one_run_are_those_of_its_epochs(store: RunStore) -> None:
    rows = [
        {"val_top1": 0.3, "train_top1": 0.35, "val_loss": 1.5, "epoch_seconds": 10},
        {"val_top1": 0.5, "train_top1": 0.65, "val_loss": 1.2, "epoch_seconds": 30},
        {"val_top1": 0.4, "train_top1": 0.9, "val_loss": 1.8, "epoch_seconds": 20},
    ]
    report = {"top1": 0.5, "calibration": {"temperature": 1.7, "ece_before": 0.21, "ece_after": 0.03, "bins": 15}}
    run = write_run(store, "a", rows, report=report, model={"num_params": 10, "multiply_adds": 20})
    row = figures(groups([run])[0])
    assert (row["best_val_top1"], row["best_epoch"], row["last_val_top1"]) == (0.5, 2, 0.4)
    assert (row["train_top1_at_best"], row["gap_at_best"]) == (0.65, 0.65 - 0.5)
    assert (row["lowest_val_loss"], row["last_val_loss"]) == (1.2, 1.8)
    assert (row["epoch_seconds_median"], row["total_seconds"]) == (20, 60)
    assert (row["num_params"], row["multiply_adds"]) == (10, 20)
    assert (row["ece"], row["ece_after"], row["temperature"]) == (0.21, 0.03, 1.7)
    assert (row["n"], row["seeds"], row["best_val_top1_std"], row["test_top1"]) == (1, "0", None, None)
    json.dumps(row, allow_nan=False)


def test_figures_of_earlier_weights_are_not_those_of_the_run(store: RunStore) -> None:
    """Evaluated after one epoch, then resumed to a better one."""
    calibrated = {"temperature": 1.7, "ece_before": 0.21, "ece_after": 0.03, "bins": 15}
    rows, old = [{"val_top1": 0.4}, {"val_top1": 0.5}], {"top1": 0.41, "epoch": 1, "calibration": calibrated}
    run = write_run(store, "a", rows, report=old)
    store.save_report("a", FINGERPRINT, "test", old)
    names = ("test_top1", "ece", "ece_after", "temperature")
    assert [figures(groups([run])[0])[name] for name in names] == [None] * 4
    for split in ("val", "test"):
        store.save_report("a", FINGERPRINT, split, {**old, "epoch": 2})
    assert [figures(groups([run])[0])[name] for name in names] == [0.41, 0.21, 0.03, 1.7]


def test_figures_of_a_group_are_means_with_their_spread(store: RunStore) -> None:
    group = three_seeds(store)
    row = figures(group)
    best = [0.5, 0.6, 0.2]
    assert row["best_val_top1"] == pytest.approx(np.mean(best))
    assert row["best_val_top1_std"] == pytest.approx(np.std(best, ddof=1))
    assert (row["n"], row["seeds"], row["ids"]) == (3, "0, 1, 2", "s0, s1, s2")
    assert row["best_epoch"] == 2


def test_figures_of_reports_are_of_all_seeds_or_none(store: RunStore) -> None:
    report = {"top1": 0.5, "calibration": {"temperature": 1.5, "ece_before": 0.2, "ece_after": 0.1, "bins": 15}}
    for seed in range(3):
        write_run(store, f"s{seed}", [{}] if seed < 2 else [], seed=seed, state="finished" if seed < 2 else "queued")
    for seed in range(2):
        row = figures(groups(store.runs())[0])
        assert [row[name] for name in ("test_top1", "test_top1_std", "ece", "ece_after", "temperature")] == [None] * 5
        for split in ("val", "test"):
            store.save_report(f"s{seed}", FINGERPRINT, split, report)
    row = figures(groups(store.runs())[0])
    assert [row[name] for name in ("n", "test_top1", "test_top1_std", "ece", "ece_after", "temperature")] == [
        2, 0.5, 0, pytest.approx(0.2), 0.1, 1.5,
    ]  # fmt: skip
    assert (row["epochs_done"], row["state"]) == (1, "finished, queued"), "of the seeds that are counted"


def test_the_difference_to_a_baseline_has_its_sign_and_is_refused_for_other_data(store: RunStore) -> None:
    runs = [write_run(store, i, [{"val_top1": t}], optim__lr=lr) for i, t, lr in (("a", 0.5, 0.1), ("b", 0.4, 0.2))]
    runs.append(write_run(store, "c", [{"val_top1": 0.9}], fingerprint="e" * 32))
    base, *others = groups(runs)
    rows = [figures(g, base) for g in (base, *others)]
    assert [r["difference"] for r in rows] == [None, pytest.approx(-0.1), None]
    assert [r["comparable"] for r in rows] == [True, True, False]


def test_a_run_without_an_epoch_has_empty_figures(store: RunStore) -> None:
    row = figures(groups([write_run(store, "a", [], state="queued")])[0])
    assert (row["best_val_top1"], row["gap_at_best"], row["total_seconds"], row["epochs_done"]) == (None, None, None, 0)


def test_settings_that_differ_and_all_on_request(store: RunStore) -> None:
    runs = [write_run(store, "a", [{}]), write_run(store, "b", [{}], optim__lr=0.01, train__patience=3)]
    assert [(r["setting"], r["run:a"], r["run:b"]) for r in settings_rows(runs)] == [
        ("optim.lr", "0.001", "0.01"),
        ("train.patience", "none", "3"),
    ]
    every = {r["setting"]: r for r in settings_rows(runs, everything=True)}
    assert list(every) == list(SETTINGS)
    assert (every["schedule.power"]["run:a"], every["schedule.power"]["differs"]) == ("–", "")


def test_the_experiments_of_the_best_runs_and_lists_with_further_seeds_last(store: RunStore) -> None:
    tops = {"baseline": (0.50, 0.58), "cosine": (0.55, 0.56), "dropout": (0.57,), "plateau": (0.1,)}
    made = [
        write_run(store, f"{recipe}-{seed}", [{"val_top1": top}], recipe=recipe, seed=seed)
        for recipe, values in tops.items()
        for seed, top in enumerate(values)
    ]
    ranked = by_merit(made)
    assert [r.id for r in seeds_last(ranked)] == [
        "baseline-1", "dropout-0", "cosine-1", "plateau-0", "baseline-0", "cosine-0",
    ]  # fmt: skip
    led = leading(ranked, 3)
    assert [(g.label, g.n) for g in led] == [("dropout-0", 1), ("cosine", 2), ("baseline", 2)]
    assert best_top1(led[2]) == pytest.approx(0.54)


def test_settings_that_a_run_does_not_use_are_not_its_settings(store: RunStore) -> None:
    made = [write_run(store, r, [{}], recipe=r) for r in ("baseline", "step-decay", "exponential-decay")]
    rows = {r["setting"]: [r[f"run:{run.id}"] for run in made] for r in settings_rows(made)}
    assert rows == {
        "schedule.name": ["constant", "step", "exponential"],
        "schedule.step_size": ["–", "5", "–"],
        "schedule.gamma": ["–", "0.5", "0.9"],
    }
    assert list(settings_notes(groups(made)).values()) == [
        "schedule.name constant",
        "schedule.name step, schedule.step_size 5, schedule.gamma 0.5",
        "schedule.name exponential, schedule.gamma 0.9",
    ]
    same = [write_run(store, f"c{g}", [{}], schedule__gamma=g) for g in (0.5, 0.9)]
    assert settings_rows(same) == []


def test_an_ensemble_shows_its_members_and_no_settings(store: RunStore) -> None:
    made = [write_run(store, r, [{}], recipe=r) for r in ("baseline", "cosine")]
    both = write_run(store, "both", [{}], members=["baseline", "cosine"])
    other = write_run(store, "other", [{}], members=["cosine", "baseline", "both"])
    members, schedule, fraction = settings_rows([made[0], both, made[1], other])
    assert [members[f"run:{r}"] for r in ("baseline", "both", "other")] == [
        "–",
        "baseline, cosine",
        "cosine, baseline, both",
    ]
    assert [row["run:both"] for row in (schedule, fraction)] == ["–", "–"]
    assert (schedule["setting"], schedule["run:cosine"]) == ("schedule.name", "cosine")
    assert [r["setting"] for r in settings_rows([both, other])] == ["members"]


# What a recipe brought


def test_a_recipe_s_result_is_of_its_own_runs_and_the_baseline_s_on_the_same_pictures(store: RunStore) -> None:
    write_run(store, "base", [{"val_top1": 0.5}], train__epochs=25)
    write_run(store, "elsewhere", [{"val_top1": 0.9}], train__epochs=25, fingerprint="0" * 32, data__name="mine")
    write_run(store, "drop", [{"val_top1": 0.6}], train__epochs=25, recipe="dropout", notes={"archived": True})
    write_run(store, "changed", [{"val_top1": 0.8}], train__epochs=25, recipe="dropout", optim__lr=0.01)
    write_run(store, "stopped", [{"val_top1": 0.8}], train__epochs=25, recipe="dropout", seed=1, state="stopped")
    runs = store.runs(archived=True)
    group, baseline = recipe_results("dropout", runs, "mine")  # it has none there
    assert [r.id for r in group.runs] == ["drop"]
    assert baseline and [r.id for r in baseline.runs] == ["base"]
    assert result_in_words(group) == "60.00 % (1 seed)"
    own, none = recipe_results("baseline", runs, "mine")
    assert ([r.id for r in own.runs], none) == (["elsewhere"], None)
    assert recipe_results("dropout", runs[:0], "mine") is None
    assert recipe_results("cosine", runs) is None


def test_a_recipe_without_a_baseline_on_its_pictures_stands_alone(store: RunStore) -> None:
    write_run(store, "base", [{"val_top1": 0.5}], train__epochs=25, fingerprint="0" * 32)
    for seed, top in ((0, 0.6), (1, 0.62)):
        write_run(
            store,
            f"drop-{seed}",
            [{"val_top1": top}],
            train__epochs=25,
            recipe="dropout",
            seed=seed,
            runtime__threads=2 + seed,
        )
    group, baseline = recipe_results("dropout", store.runs(), "fer2013")
    assert (result_in_words(group), baseline) == ("61.00 ± 1.41 % (2 seeds)", None)
