"""Compare: which runs it shows, what it says of them, and that its figures are those of metrics.jsonl."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.runtime.state.query_params import QueryParams
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox

from fer.config import with_settings
from fer.experiments import groups
from fer.files import write_json_atomic
from fer.recipes import STUDY, get_recipe
from fer.results import as_csv
from fer.runs import RunStore
from fer.ui import compare, compare_curves, compare_tables
from tests.app.conftest import ROOT, said
from tests.made_runs import logits_of, write_run

FER, DRAWN = "f" * 32, "d" * 32


def add(
    run_id: str,
    tops: list[float],
    *,
    recipe: str = "baseline",
    state: str = "finished",
    fingerprint: str = FER,
    seed: int = 0,
    lr: float = 0.001,
    shift: float = 0.0,
    created: float = 0.0,
    **settings: Any,
) -> None:
    """A run folder with a network's facts and figures that differ from epoch to epoch; shift moves the losses."""
    store = RunStore()
    changes = {
        "train.epochs": max(len(tops), 1),
        "seed": seed,
        **{k.replace("__", "."): v for k, v in settings.items()},
    }
    data = {"fingerprint": fingerprint, "synthetic": fingerprint == DRAWN}
    store.create(with_settings(get_recipe(recipe).config(), changes), recipe=recipe, data=data, run_id=run_id)
    if created:
        record = json.loads((store.folder(run_id) / "config.json").read_text())
        write_json_atomic(store.folder(run_id) / "config.json", {**record, "created": created})
    write_json_atomic(store.folder(run_id) / "model.json", {"num_params": 423751, "multiply_adds": 26519936})
    for e, top in enumerate(tops, 1):
        row = {
            "epoch": e,
            "lr": lr,
            "train_loss": 1.7 / e + shift,
            "train_top1": 0.3 + 0.1 * e,
            "val_loss": 1.4 + 0.1 * e + shift,
            "val_top1": top,
        }
        store.append_metrics(run_id, {**row, "val_macro_f1": top - 0.04, "epoch_seconds": 20.0 + e})
    store.write_status(run_id, {"state": state, "epoch": len(tops), "steps_per_epoch": 10})


def chosen(at: AppTest) -> list[str]:
    return at.multiselect(key="compare-runs").value


def baseline_of(at: AppTest) -> Selectbox:
    return next(s for s in at.selectbox if s.label == "Baseline")


def figures(at: AppTest) -> pd.DataFrame:
    return at.dataframe[0].value.set_index("label")


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """`{file name: rows}` of the CSV buttons that a page draws."""
    found: dict[str, list[dict[str, Any]]] = {}

    def kept(rows: Any, name: str, **_options: Any) -> None:
        found[name] = list(rows() if callable(rows) else rows)

    for module in (compare, compare_curves, compare_tables):
        monkeypatch.setattr(module, "csv_button", kept)
    return found


@pytest.fixture
def study() -> None:
    for i, recipe in enumerate(STUDY):
        add(recipe, [0.4, 0.5 + i / 100, 0.45], recipe=recipe, shift=i / 10)


def test_empty_store_sends_to_train(open_page) -> None:
    at = open_page("compare")
    assert not at.exception
    assert "There is no run to compare yet." in said(at)
    assert not at.multiselect


def test_opens_on_the_study(open_page, study) -> None:
    add("newer", [0.9], shift=3)
    at = open_page("compare")
    assert not at.exception
    assert chosen(at) == list(STUDY)
    assert "grouped-conv reaches the highest val top-1: 53.00 %" in said(at)
    assert "Next: exponential-decay, 1.00 points behind" in said(at)
    assert len(at.get("plotly_chart")) == 2


def test_without_the_study_opens_on_the_newest_finished(open_page) -> None:
    for i in range(6):
        add(f"run-{i}", [0.3 + i / 100], shift=i, created=1000.0 + i)
    add("going", [0.3], state="stopped", shift=9, created=2000.0)
    assert chosen(open_page("compare")) == ["run-5", "run-4", "run-3", "run-2"]


def test_one_run(open_page) -> None:
    add("only", [0.3, 0.41, 0.4])
    at = open_page("compare")
    assert not at.exception
    assert "only reaches 41.00 % val top-1" in said(at)
    assert not [b for b in at.selectbox if b.label == "Baseline"]
    assert "There is one run, so nothing differs." in said(open_page("compare", part="Settings"))


def test_url_chooses_in_its_order(open_page, study) -> None:
    at = open_page("compare", run=["step-decay", "baseline"])
    assert chosen(at) == ["step-decay", "baseline"]
    assert list(figures(at).index) == ["step-decay", "baseline"]


def test_unknown_and_broken_runs_are_named_and_left_out(open_page, study) -> None:
    broken = RunStore().root / "torn"
    broken.mkdir()
    (broken / "config.json").write_text('{"sch')
    at = open_page("compare", run=["baseline", "gone<b>", "torn"])
    assert not at.exception
    assert chosen(at) == ["baseline"]
    assert "there is no such run: gone<b>" in said(at)
    assert "its folder is damaged: torn (config.json is damaged" in said(at)


def test_only_a_broken_run_is_like_none(open_page) -> None:
    (RunStore().root / "torn").mkdir(parents=True)
    at = open_page("compare")
    assert not at.exception
    assert "There is no run to compare yet." in said(at)


def test_choosing_writes_the_url_and_clearing_asks_for_a_choice(open_page, study) -> None:
    at = open_page("compare")
    at.multiselect(key="compare-runs").set_value(["baseline", "grouped-conv"]).run()
    assert at.query_params["run"] == ["baseline", "grouped-conv"]
    at.multiselect(key="compare-runs").set_value([]).run()
    assert not at.exception
    assert chosen(at) == []
    assert "Choose one or more runs" in said(at)
    assert not {"run", "baseline"} & set(at.query_params)
    assert chosen(at.run()) == []


def test_what_the_page_opens_on_stands_in_the_address(open_page, study) -> None:
    at = open_page("compare")
    assert (at.query_params["run"], at.query_params["baseline"]) == (list(STUDY), "baseline")
    at = open_page("compare", run="step-decay")
    assert "baseline" not in at.query_params, "one experiment is compared with nothing"
    at.multiselect(key="compare-runs").set_value(["step-decay", "grouped-conv"]).run()
    assert at.query_params["baseline"] == "step-decay"
    at.multiselect(key="compare-runs").set_value(["step-decay", "grouped-conv", "baseline"]).run()
    assert at.query_params["baseline"] == baseline_of(at).value == "baseline", "the reader has chosen none yet"
    baseline_of(at).set_value("grouped-conv").run()
    at.multiselect(key="compare-runs").set_value(["grouped-conv", "baseline"]).run()
    assert at.query_params["baseline"] == baseline_of(at).value == "grouped-conv"


def test_the_address_is_written_in_one_step(open_page, study, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = QueryParams._send_query_param_msg, []
    monkeypatch.setattr(QueryParams, "_send_query_param_msg", lambda self: written.append(real(self)))
    at = open_page("compare")
    assert len(written) == 1, "each is an entry of the browser's history"
    at.run()
    assert len(written) == 1


def test_a_baseline_that_the_address_names_is_among_the_runs(open_page, study) -> None:
    RunStore().annotate("baseline", archived=True)
    at = open_page("compare", run=["step-decay", "grouped-conv"], baseline="baseline")
    assert not at.exception and not at.warning
    assert chosen(at) == at.query_params["run"] == ["step-decay", "grouped-conv", "baseline"]
    assert baseline_of(at).value == at.query_params["baseline"] == "baseline"
    assert figures(at)["difference"]["step-decay"] == pytest.approx(1)
    assert chosen(open_page("compare", run="step-decay", baseline="baseline")) == ["step-decay", "baseline"]
    at.multiselect(key="compare-runs").set_value(["step-decay", "grouped-conv"]).run()
    assert at.query_params["baseline"] == baseline_of(at).value == "step-decay", "the reader took it away"
    assert chosen(at.run()) == ["step-decay", "grouped-conv"]


def test_the_baseline_is_among_the_most_runs_that_fit(open_page) -> None:
    names = [f"run-{i:02}" for i in range(compare.MAX_RUNS + 1)]
    for i, name in enumerate(names):
        add(name, [0.3], shift=i)
    at = open_page("compare", run=names[:-1], baseline=names[-1])
    assert not at.exception
    assert chosen(at) == [*names[:-2], names[-1]]
    assert "are the most that one page can show: run-29" in said(at)


@pytest.mark.parametrize("runs", [["baseline"], ["baseline", "step-decay"]])
def test_a_baseline_that_is_not_there_is_named(open_page, study, runs: list[str]) -> None:
    at = open_page("compare", run=runs, baseline="gone<b>")
    assert not at.exception
    assert "The baseline that the address names is left out, since there is no such run: gone<b>." in said(at)
    assert at.query_params["baseline"] == "gone<b>", "until the reader chooses another"
    broken = RunStore().root / "torn"
    broken.mkdir()
    (broken / "config.json").write_text('{"sch')
    at = open_page("compare", run=runs, baseline="torn")
    assert not at.exception
    assert "its folder is damaged: torn (config.json is damaged" in said(at)


def test_an_older_address_brings_back_its_baseline(open_page, study) -> None:
    at = open_page("compare", baseline="step-decay")
    baseline_of(at).set_value("grouped-conv").run()
    at.query_params["baseline"] = "step-decay"  # as by the browser's Back
    at.run()
    assert baseline_of(at).value == at.query_params["baseline"] == "step-decay"
    assert pd.isna(figures(at)["difference"]["step-decay"])


def test_changed_url_wins_over_the_picker(open_page, study) -> None:
    at = open_page("compare", run=["baseline"])
    at.query_params["run"] = ["step-decay", "grouped-conv"]
    at.run()
    assert chosen(at) == ["step-decay", "grouped-conv"]


def test_coming_back_shows_what_was_compared_before(open_page, study) -> None:
    at = open_page("compare", run=["step-decay", "grouped-conv"], baseline="grouped-conv", part="Settings")
    at.multiselect(key="compare-runs").set_value(["grouped-conv", "exponential-decay"]).run()
    for carried in ({}, {"clone": "baseline", "set": "model.dropout=0.5"}):  # by the menu, and by the browser's Back
        at.query_params.clear()
        at.switch_page("pages/runs.py").run()
        at.query_params.clear()
        at.query_params.update(carried)
        at.switch_page("pages/compare.py").run()
        assert not at.exception
        assert chosen(at) == at.query_params["run"] == ["grouped-conv", "exponential-decay"]
        assert baseline_of(at).value == "grouped-conv"
        assert set(at.query_params) == {"run", "baseline", "part"}, "nothing of another page's"
        assert "run:grouped-conv" in at.dataframe[0].value, "the tab that was open"
    at.query_params.clear()
    assert chosen(at.run()) == at.query_params["run"] == ["grouped-conv", "exponential-decay"], "the menu, on the page"
    assert not at.exception
    at.switch_page("pages/runs.py").run()
    at.query_params.clear()
    at.query_params["run"] = "baseline"
    assert chosen(at.switch_page("pages/compare.py").run()) == ["baseline"], "an address that names runs wins"


def test_a_run_that_was_deleted_meanwhile_does_not_come_back(open_page, study) -> None:
    at = open_page("compare", run=["step-decay", "grouped-conv"], baseline="grouped-conv")
    at.query_params.clear()
    at.switch_page("pages/runs.py").run()
    RunStore().delete("grouped-conv")
    at.query_params.clear()
    at.switch_page("pages/compare.py").run()
    assert not at.exception and not at.warning
    assert chosen(at) == ["step-decay"]


def test_more_runs_than_a_figure_can_show(open_page) -> None:
    names = [f"run-{i:02}" for i in range(compare.MAX_RUNS + 2)]
    for i, name in enumerate(names):
        add(name, [0.3], shift=i)
    at = open_page("compare", run=names)
    assert not at.exception
    assert chosen(at) == names[: compare.MAX_RUNS]
    assert "run-30, run-31" in said(at)


def test_archived_run_is_shown_only_when_asked_for(open_page, study) -> None:
    RunStore().annotate("step-decay", archived=True)
    assert chosen(open_page("compare")) == ["baseline", "exponential-decay", "grouped-conv"]
    assert chosen(open_page("compare", run="step-decay")) == ["step-decay"]


def test_archived_runs_are_marked(open_page) -> None:
    seeds("baseline", [0.50, 0.51])
    add("step-decay", [0.4], recipe="step-decay")
    for run_id in ("baseline-1", "step-decay"):
        RunStore().annotate(run_id, archived=True)
    at = open_page("compare", run=["baseline-0", "baseline-1", "step-decay"])
    assert list(figures(at)["state"]) == ["✓ finished, 1 of 2 archived", "✓ finished, archived"]
    options = at.multiselect(key="compare-runs").options
    assert sorted(options) == ["baseline-0", "baseline-1 (archived)", "step-decay (archived)"]
    at = open_page("runs", archived="1")
    states = at.dataframe[0].value.set_index("run")["state"]
    assert dict(states) == {
        "baseline-0": "✓ finished", "baseline-1": "✓ finished, archived", "step-decay": "✓ finished, archived",
    }  # fmt: skip


def test_table_and_csv_hold_the_figures_of_metrics_jsonl(open_page, study) -> None:
    at = open_page("compare", run=["baseline", "step-decay"])
    rows = [json.loads(line) for line in (RunStore().root / "step-decay" / "metrics.jsonl").read_text().splitlines()]
    best, last = rows[1], rows[2]
    shown = figures(at).loc["step-decay"]
    assert shown["best_val_top1"] == pytest.approx(100 * best["val_top1"])
    assert shown["best_epoch"] == 2
    assert shown["last_val_top1"] == pytest.approx(100 * last["val_top1"])
    assert shown["train_top1_at_best"] == pytest.approx(100 * best["train_top1"])
    assert shown["gap_at_best"] == pytest.approx(100 * (best["train_top1"] - best["val_top1"]))
    assert (shown["lowest_val_loss"], shown["last_val_loss"]) == (rows[0]["val_loss"], last["val_loss"])
    assert shown["val_macro_f1_at_best"] == pytest.approx(100 * best["val_macro_f1"])
    assert (shown["num_params"], shown["multiply_adds"], shown["epoch_seconds_median"]) == (423751, 26.519936, 22.0)
    assert (shown["epochs_done"], shown["epochs_asked"], shown["seeds"], shown["state"]) == (3, 3, "0", "✓ finished")

    found = groups([RunStore().get(i) for i in ("baseline", "step-decay")])
    text = as_csv(compare_tables.summary(found, found[0]))
    table = pd.read_csv(io.BytesIO(text), float_precision="round_trip").set_index("id")
    assert table.loc["step-decay", "best_val_top1"] == best["val_top1"]
    assert table.loc["step-decay", "last_val_loss"] == last["val_loss"]
    assert table.loc["step-decay", "gap_at_best"] == best["train_top1"] - best["val_top1"]
    assert table.loc["step-decay", "difference"] == best["val_top1"] - 0.5
    assert [b.label for b in at.get("download_button")] == [
        "HTML report",
        "Loss as CSV",
        "Top-1 as CSV",
        "Download as CSV",
    ]


def test_side_by_side_has_one_chart_a_run(open_page, study) -> None:
    at = open_page("compare", view="Side by side")
    assert not at.exception
    assert len(at.get("plotly_chart")) == 4


def test_other_curves_by_url(open_page, study) -> None:
    at = open_page("compare", curves="Learning rate")
    assert not at.exception
    (chart,) = at.get("plotly_chart")
    assert chart.proto.alt.startswith("Learning rate against epoch. baseline: 0.001 first, 0.001 last; step-decay")


def test_settings_show_differences_and_all_on_request(open_page, study) -> None:
    at = open_page("compare", run=["baseline", "step-decay"], part="Settings")
    shown = at.dataframe[0].value.set_index("setting")
    assert list(shown.index) == ["schedule.name", "schedule.step_size", "schedule.gamma"]
    assert list(shown.loc["schedule.gamma", ["run:baseline", "run:step-decay"]]) == ["–", "0.5"]
    assert list(shown.loc["schedule.name", ["run:baseline", "run:step-decay"]]) == ["constant", "step"]
    at.toggle(key="all-settings").set_value(True).run()
    every = at.dataframe[0].value.set_index("setting")
    assert every.loc["schedule.name", "differs"] == "≠" and every.loc["optim.lr", "differs"] == ""
    assert every.loc["optim.lr", "run:baseline"] == "0.001"


def test_the_url_holds_the_baseline_and_differences_are_against_it(open_page, study) -> None:
    at = open_page("compare", baseline="step-decay")
    assert baseline_of(at).value == "step-decay"
    shown = figures(at)["difference"]
    assert pd.isna(shown["step-decay"])
    assert (shown["baseline"], shown["grouped-conv"]) == (pytest.approx(-1), pytest.approx(2))
    baseline_of(at).set_value("grouped-conv").run()
    assert at.query_params["baseline"] == "grouped-conv"
    assert figures(at)["difference"]["step-decay"] == pytest.approx(-2)


def seeds(recipe: str, tops: list[float], **settings: Any) -> None:
    for seed, top in enumerate(tops):
        add(f"{recipe}-{seed}", [top - 0.1, top], recipe=recipe, seed=seed, shift=top, **settings)


def test_seeds_are_one_row_with_mean_spread_and_a_verdict_on_the_recipes(open_page) -> None:
    seeds("baseline", [0.50, 0.51, 0.52])
    seeds("step-decay", [0.55, 0.565, 0.57])
    ids = [f"{r}-{s}" for r in ("baseline", "step-decay") for s in range(3)]
    at = open_page("compare", run=ids)
    assert not at.exception
    shown = figures(at)
    assert list(shown.index) == ["baseline", "step-decay"] and list(shown["n"]) == [3, 3]
    assert shown.loc["baseline", "best_val_top1"] == pytest.approx(51)
    assert shown.loc["baseline", "best_val_top1_std"] == pytest.approx(1)
    assert "step-decay reaches the highest val top-1: 56.17 % (mean of 3 seeds)" in said(at)
    assert "step-decay beats baseline by 5.17 points" in said(at) and "more than noise" in said(at)
    legend = " ".join(e.proto.body for e in at.get("html"))
    assert "mean of 3 seeds" in legend and "☆ highest mean" in legend and "best epoch" not in legend
    assert "a star stands where their mean val top-1 is highest" in said(at)
    assert "51.00 % where its mean val top-1 is highest" in at.get("plotly_chart")[1].proto.alt
    single = open_page("compare", run=ids, rows="Single runs")
    assert len(figures(single)) == 6


def test_the_epoch_of_several_seeds_is_called_the_median(open_page) -> None:
    seeds("baseline", [0.50, 0.51])
    for ids, head in (["baseline-0", "baseline-1"], "in epoch (median)"), (["baseline-0"], "in epoch"):
        columns = json.loads(open_page("compare", run=ids).dataframe[0].proto.columns)
        assert columns["best_epoch"]["label"] == head


def test_a_note_names_the_runs_that_it_is_about(open_page) -> None:
    seeds("baseline", [0.50, 0.51])
    seeds("cosine", [0.52, 0.53])
    add("step", [0.3, 0.4], recipe="step-decay")
    for run_id in ("baseline-0", "baseline-1", "cosine-1"):
        path = RunStore().folder(run_id) / "config.json"
        write_json_atomic(path, {**json.loads(path.read_text()), "remark": "Trained beside other work."})
    ids = ["baseline-0", "baseline-1", "cosine-0", "cosine-1", "step"]
    assert "baseline (2 seeds), cosine-1: Trained beside other work." in said(open_page("compare", run=ids)).replace(
        "\u2060", ""
    )
    for ids in (["baseline-0"], ["baseline-0", "baseline-1", "cosine-1"]):  # of all of them it is said without names
        assert "info: Trained beside other work." in said(open_page("compare", run=ids))


def test_seeds_that_wait_are_not_in_the_mean(open_page) -> None:
    seeds("baseline", [0.50, 0.52])
    add("baseline-2", [], seed=2, state="queued", train__epochs=2)
    at = open_page("compare", run=[f"baseline-{s}" for s in range(3)])
    assert not at.exception
    assert "reaches 51.00 % val top-1 (mean of 2 seeds)" in said(at)
    assert "mean of 2 seeds" in " ".join(e.proto.body for e in at.get("html"))
    assert list(figures(at)["n"]) == [2]
    alone = open_page("compare", run=["baseline-1", "baseline-2"])
    assert "reaches 52.00 % val top-1" in said(alone) and "Reached in epoch 2." in said(alone)
    assert "<b>52.00 %</b> in epoch 2" in " ".join(e.proto.body for e in alone.get("html"))


def test_a_seed_trained_twice_has_figure_and_epoch_of_one_run(open_page) -> None:
    add("older", [0.5, 0.4], created=1e9)
    add("newer", [0.3, 0.6], created=2e9, shift=1, runtime__precision="bf16")
    at = open_page("compare", run=["older", "newer"])
    assert not at.exception
    assert "reaches 60.00 % val top-1" in said(at) and "Reached in epoch 2." in said(at)
    assert "<b>60.00 %</b> in epoch 2" in " ".join(e.proto.body for e in at.get("html"))


@pytest.mark.parametrize("view", ["Overlaid", "Side by side"])
def test_a_seed_whose_finished_run_has_no_epoch_left_has_no_figure(open_page, view: str) -> None:
    add("emptied", [], train__epochs=2)
    add("cut", [0.5], state="stopped", train__epochs=2)
    at = open_page("compare", run=["emptied", "cut"], view=view)
    assert not at.exception
    assert figures(at)["best_val_top1"].isna().all()


def test_an_ensemble_is_networks_together_and_has_no_seed(open_page, study) -> None:
    write_run(RunStore(), "both", [{"val_top1": 0.7, "lr": 0.0}], members=["baseline", "step-decay"])
    at = open_page("compare", run=["baseline", "both"])
    assert not at.exception
    assert "both reaches the highest val top-1: 70.00 % (2 networks together)" in said(at)
    assert "Reached in epoch" not in said(at)
    assert "<b>70.00 %</b> 2 networks together" in " ".join(e.proto.body for e in at.get("html"))
    assert "An ensemble has no epochs, so it is one point, drawn at epoch 1." in said(at)
    alone = open_page("compare", run=["both"])
    assert "best epoch" not in " ".join(e.proto.body for e in alone.get("html"))
    shown = figures(at).loc["both"]
    assert shown["seeds"] == "" and pd.isna(shown[["n", "best_epoch", "epochs_done", "epochs_asked"]]).all()
    says = said(open_page("compare", run=["both"], part="What the curves say"))
    assert "an ensemble has none" in says and "None of the rules" not in says
    at = open_page("compare", run=["baseline", "both"], curves="Learning rate")
    assert "both" not in at.get("plotly_chart")[0].proto.alt
    assert "Not drawn, since an ensemble has no learning rate: both." in said(at)
    at = open_page("compare", run="both", curves="Learning rate")
    assert not at.exception and not at.get("plotly_chart")
    assert "so it has no learning rate to draw" in said(at)
    assert "Learning rate as CSV" not in [b.label for b in at.get("download_button")]


def test_one_seed_each_is_a_verdict_on_two_networks(open_page, saved) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 400)
    for name, share in (("baseline", 0.5), ("cosine", 0.8)):
        right = np.arange(400) < share * 400
        rows = [{"val_top1": share, "val_loss": 2 - share}]
        write_run(RunStore(), name, rows, recipe=name, labels=labels, logits=logits_of(right, labels))
    at = open_page("compare", run=["baseline", "cosine"], part="Is it real?")
    assert not at.exception
    assert "On 400 shared pictures the network cosine is" in said(at)
    assert "exact McNemar test" in said(at)
    assert at.get("plotly_chart")[-1].proto.alt.startswith("Differences in top-1 with 95 % intervals.")
    (row,) = saved["fer-lab-differences"]
    assert (row["name"], row["baseline"], row["n"]) == ("cosine", "baseline", 400)
    assert row["difference"] == pytest.approx(0.3) and row["low"] < 0.3 < row["high"]


def test_what_the_curves_say_has_evidence_and_remedies_that_open_train(open_page) -> None:
    rows = [
        {
            "val_top1": 0.5,
            "val_loss": 1.2 + 0.1 * e,
            "train_loss": 1.2 / (e + 1),
            "train_top1": min(0.99, 0.5 + 0.06 * e),
        }
        for e in range(9)
    ]
    write_run(RunStore(), "over", rows)
    at = open_page("compare", run="over", part="What the curves say")
    assert not at.exception
    assert "overfit" in " ".join(e.label for e in at.expander).lower()
    links = [e.proto for e in at.get("page_link") if e.proto.label.startswith("Try:")]
    assert links and any("clone=over" in link.query_string and "set=" in link.query_string for link in links)


def test_curves_can_be_drawn_otherwise_by_url(open_page, study) -> None:
    at = open_page("compare", x="Wall time", scale="Log", smooth="0.5", curves="Macro F1", view="Side by side")
    assert not at.exception
    specs = [json.loads(c.proto.spec) for c in at.get("plotly_chart")]
    assert len(specs) == 4
    assert specs[0]["layout"]["yaxis"]["type"] == "log"
    assert specs[0]["layout"]["xaxis"]["title"]["text"] == "s of training"
    assert next(t["name"] for t in specs[0]["data"]) == "raw"


def test_the_gap_is_linear_whatever_the_scale_and_that_is_said(open_page, study) -> None:
    at = open_page("compare", scale="Log", curves="Generalisation gap")
    assert not at.exception
    assert json.loads(at.get("plotly_chart")[0].proto.spec)["layout"].get("yaxis", {}).get("type") != "log"
    assert "The gap keeps a linear scale" in said(at)
    at = open_page("compare", scale="Log")
    assert json.loads(at.get("plotly_chart")[0].proto.spec)["layout"]["yaxis"]["type"] == "log"
    assert "The gap keeps" not in said(at)


def test_where_the_hover_box_has_no_room_for_settings_it_says_where_they_are(open_page) -> None:
    for i in range(12):
        add(f"run-{i}", [0.3 + i / 100], shift=i, optim__lr=0.001 * (i + 1))
    at = open_page("compare", run=[f"run-{i}" for i in range(12)])
    assert not at.exception and "no room for the settings of so many runs" in said(at)
    assert "no room" not in said(open_page("compare", run=[f"run-{i}" for i in range(6)]))


def test_other_runs_are_found_by_words_and_settings(open_page, study) -> None:
    add("odd", [0.3], recipe="cosine", shift=5, optim__lr=0.01)
    RunStore().annotate("odd", tags=["night shift"])
    at = open_page("compare", part="Other runs", find="NIGHT cosine")
    assert not at.exception
    assert "1 of 5 runs" in said(at) and list(at.dataframe[0].value["run"]) == ["odd"]
    at.text_input(key="find").set_value("").run()
    at.selectbox(key="find-setting").set_value("optim.lr").run()
    at.multiselect(key="find-value-optim.lr").set_value(["0.001"]).run()
    assert "4 of 5 runs" in said(at) and "odd" not in list(at.dataframe[0].value["run"])


def test_archived_runs_are_found_and_chosen_on_request(open_page, study, monkeypatch: pytest.MonkeyPatch) -> None:
    add("old", [0.3], recipe="cosine", shift=5)
    assert "archived-too" not in [t.key for t in open_page("compare", part="Other runs").toggle]
    RunStore().annotate("old", archived=True)
    assert "4 of 4 runs" in said(open_page("compare", part="Other runs"))
    real = compare_tables.table

    def first_row_selected(rows: list[Any], **options: Any) -> Any:
        shown = real(rows, **options)
        return SimpleNamespace(selection=SimpleNamespace(rows=[0])) if options["key"].startswith("all-runs") else shown

    monkeypatch.setattr(compare_tables, "table", first_row_selected)
    at = open_page("compare", part="Other runs", find="archived cosine", **{"archived-too": "true"})
    assert not at.exception
    assert "1 of 5 runs" in said(at)
    assert list(at.dataframe[0].value["state"]) == ["✓ finished, archived"]
    at.button(key="choose-these").click().run()
    assert not at.exception
    assert chosen(at) == ["old"] and at.query_params["run"] == "old"
    assert "baseline" not in at.query_params, "the one that was filled in is not among the chosen"


def test_the_figures_are_filtered_by_words_and_settings(open_page, study) -> None:
    at = open_page("compare", filter="decay")
    assert list(figures(at).index) == ["step-decay", "exponential-decay"]
    assert "2 of 4 rows" in said(at)
    assert figures(at)["difference"]["step-decay"] == pytest.approx(1), "against the baseline, shown or not"
    at.selectbox(key="filter-setting").set_value("schedule.name").run()
    at.multiselect(key="filter-value-schedule.name").set_value(["step"]).run()
    assert list(figures(at).index) == ["step-decay"]
    at.text_input(key="filter").set_value("nothing of the kind").run()
    assert not at.exception and "0 of 4 rows" in said(at) and not at.dataframe


def test_a_run_is_renamed_tagged_and_archived_from_here(open_page, study) -> None:
    at = open_page("compare")
    at.selectbox(key="edit-run").set_value("step-decay").run()
    at.text_input(key="name-step-decay").set_value("Halved").run()
    at.text_input(key="tags-step-decay").set_value("a, b").run()
    notes = RunStore().get("step-decay").notes
    assert (notes.name, notes.tags) == ("Halved", ("a", "b"))
    assert "Halved" in figures(at.run()).index
    at.button(key="Pin to the top-step-decay").click().run()
    at.button(key="Archive-step-decay").click().run()
    assert RunStore().get("step-decay").notes.pinned and RunStore().get("step-decay").notes.archived


def test_more_than_five_runs_have_parallel_coordinates(open_page, saved) -> None:
    for i in range(6):
        add(f"run-{i}", [0.3 + i / 100], shift=i, optim__lr=0.001 * (i + 1))
    at = open_page("compare", run=[f"run-{i}" for i in range(6)], part="Settings")
    assert not at.exception
    assert at.get("plotly_chart")[-1].proto.alt == "Parallel coordinates of 6 runs: optim.lr, and best val top-1."
    rows = saved["fer-lab-parallel"]
    assert [r["run"] for r in rows] == [f"run-{i}" for i in range(6)]
    assert rows[2] == {"run": "run-2", "optim.lr": 0.003, "best_val_top1": 0.32}


def test_different_data_are_not_compared(open_page) -> None:
    add("photos", [0.3, 0.5])
    add("drawn", [0.8, 0.9], fingerprint=DRAWN, shift=1)
    at = open_page("compare", run=["photos", "drawn"])
    assert not at.exception
    assert "Different data: these figures cannot be compared" in said(at)
    assert "highest val top-1" not in said(at)
    assert "On sample (synthetic): drawn reaches 90.00 % val top-1" in said(at)
    assert "Synthetic: drawn was trained on faces drawn" in said(at)


def test_held_out_share_of_train_counts_as_different_data(open_page) -> None:
    add("whole", [0.3, 0.5])
    add("part", [0.8, 0.9], shift=1, data__val_fraction=0.2)
    at = open_page("compare", run=["whole", "part"])
    assert "Different data" in said(at)
    assert "20 % of train held out" in said(at)


def test_identical_figures_of_different_settings_are_flagged(open_page) -> None:
    tops = [0.3, 0.4, 0.45, 0.5, 0.48, 0.47, 0.5]
    add("step", tops, recipe="step-decay")
    add("expo", tops, recipe="exponential-decay")
    at = open_page("compare", run=["step", "expo"])
    assert "step and expo have identical figures to the last digit in all 7 epochs" in said(at)
    assert "One of them did not run what its name says." in said(at)


def test_identical_figures_of_identical_rates_are_explained(open_page) -> None:
    add("base", [0.3, 0.4])
    add("step", [0.3, 0.4], recipe="step-decay")  # the first cut comes after 5 epochs
    at = open_page("compare", run=["base", "step"])
    assert "it was the same training" in said(at)
    assert not at.warning


def test_repetition_is_said_and_a_slightly_different_history_is_not_flagged(open_page) -> None:
    add("first", [0.3, 0.4])
    add("again", [0.3, 0.4])
    add("other", [0.3, 0.4], recipe="cosine", shift=1e-9)
    at = open_page("compare", run=["first", "again", "other"])
    assert not at.warning


def test_equal_top1_is_a_tie(open_page) -> None:
    add("a", [0.3, 0.4])
    add("b", [0.4, 0.3], recipe="cosine", shift=1)
    assert "b has exactly as many right" in said(open_page("compare", run=["a", "b"]))


def test_unfinished_runs_are_marked(open_page) -> None:
    add("done", [0.3, 0.4])
    add("cut", [0.35], state="stopped", shift=1, train__epochs=9)
    add("queue", [], state="queued", shift=2, train__epochs=5)
    at = open_page("compare", run=["done", "cut", "queue"])
    assert not at.exception
    assert "Not trained to the end: cut (stopped after 1 of 9 epochs)" in said(at)
    assert "Still training, figures so far: queue (queued, 0 of 5 epochs)" in said(at)
    assert at.toggle(key="follow").value is True
    assert pd.isna(figures(at).loc["queue", "best_val_top1"])


def test_run_without_an_epoch_says_that_curves_will_come(open_page) -> None:
    add("queue", [], state="queued")
    at = open_page("compare")
    assert not at.exception
    assert "None of these runs has finished an epoch yet." in said(at)
    assert not at.get("plotly_chart")


def test_a_layer_table_whose_counts_are_none_is_shown_without_them(open_page, study) -> None:
    path = RunStore().root / "baseline" / "model.json"
    path.write_text(json.dumps({"num_params": [3], "multiply_adds": "x"}))
    at = open_page("compare", run="baseline")
    assert not at.exception and at.dataframe


def test_damaged_line_of_metrics_is_named(open_page) -> None:
    add("torn", [0.3, 0.4])
    with open(RunStore().root / "torn" / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "lr"')
    at = open_page("compare")
    assert not at.exception
    assert "torn: metrics.jsonl: a torn last line left out" in said(at)


def test_names_that_look_like_markup_and_names_given_twice(open_page) -> None:
    add("a", [0.3])
    add("b", [0.4], recipe="cosine", shift=1)
    for run_id in ("a", "b"):
        RunStore().annotate(run_id, name="**<b>same</b>** $x$")
    at = open_page("compare", run=["a", "b"])
    assert not at.exception
    assert list(figures(at).index) == ["**<b>same</b>** $x$ (a)", "**<b>same</b>** $x$ (b)"]
    legend = " ".join(e.proto.body for e in at.get("html"))
    assert "&lt;b&gt;same&lt;/b&gt;" in legend and "<b>same" not in legend


def test_page_does_not_load_torch(tmp_path: Path) -> None:
    add("baseline", [0.3, 0.4])
    code = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        f"at = AppTest.from_file({str(ROOT / 'streamlit_app.py')!r}, default_timeout=60)\n"
        "at.switch_page('pages/compare.py'); at.run()\n"
        "assert not at.exception and at.dataframe\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
