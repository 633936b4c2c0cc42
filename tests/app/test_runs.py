"""Runs: empty, every state, and what can be done with a run."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from fer import cluster, jobs
from fer.config import Config
from fer.runs import RunStore
from tests.app.conftest import metrics_row, said


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No process is started; the list grows by one each time the page asks for a worker."""
    asked: list[int] = []
    monkeypatch.setattr(jobs, "ensure_worker", lambda store: asked.append(1))
    return asked


def button(at: AppTest, label: str):
    return next(b for b in at.button if b.label == label)


def labels(at: AppTest) -> list[str]:
    return [b.label for b in at.button]


def test_empty_store_says_what_to_do(open_page) -> None:
    at = open_page("runs")
    assert not at.exception
    assert "There are no runs here" in said(at)


def test_shows_figures_of_the_run_in_the_link(open_page, add_run) -> None:
    add_run("first", [0.3, 0.41])
    add_run("second", [0.5, 0.45])
    at = open_page("runs", run="second")
    assert not at.exception
    assert at.selectbox[0].value == "second"
    assert [m.value for m in at.metric][:2] == ["50.00 %", "45.00 %"]
    assert {r.split()[-1] for r in at.dataframe[0].value["state"]} == {"finished"}


def test_an_ensemble_offers_what_an_ensemble_can_do(open_page, add_run) -> None:
    for run_id in ("a", "b"):
        add_run(run_id, [0.4])
    store = RunStore()
    store.create(Config(), recipe=None, data={}, run_id="both", kind="ensemble", members=["a", "b"], reserved=True)
    at = open_page("runs", run="both")
    assert not at.exception
    assert [p.text for p in at.get("progress")] == ["Its 2 members answer for all pictures of train and val"]
    assert not {"Stop", "Resume", "Run next"} & set(labels(at))
    assert not [e for e in at.get("page_link") if "Clone" in e.proto.label]
    store.write_status("both", {"state": "queued", "queued": 0, "reserved": True})
    at = open_page("runs", run="both")
    assert "Its making was broken off. Delete it (More), and make it again of a, b." in said(at)
    assert not {"Stop", "Resume", "Run next"} & set(labels(at))
    assert "is an ensemble, which is not trained. Clone one of its members: a, b" in said(
        open_page("train", clone="both")
    )


def test_an_ensemble_shows_figures_of_its_own_and_no_epochs(open_page, add_run) -> None:
    for run_id in ("a", "b"):
        add_run(run_id, [0.4])
    store = RunStore()
    store.create(Config(), recipe=None, data={}, run_id="both", kind="ensemble", members=["a", "b"])
    store.append_metrics("both", {**metrics_row(1, 0.45), "epoch_seconds": 7200.0})
    store.write_status("both", {"state": "finished", "epoch": 1})
    at = open_page("runs", run="both")
    assert not at.exception
    shown = {m.label: m.value for m in at.metric}
    assert shown == {
        "Val top-1": "45.00 %",
        "Train top-1": "90.00 %",
        "Networks together": "2",
        "Their trainings": "2 h 00 min",
    }
    assert "no settings of its own; those of a, b are theirs" in said(at)
    assert "probabilities of a, b." in said(at) and "The trainings are counted" not in said(at)
    store.write_status("both", {"state": "finished", "epoch": 1, "origins": {"c": True, "d": False}})
    assert (
        "The trainings are counted including c, which they began from, without d, which they began from and which was not in"
    ) in said(open_page("runs", run="both"))


def test_compare_is_linked_beside_the_baseline_where_there_is_one(open_page, add_run) -> None:
    def linked() -> str:
        at = open_page("runs", run="mine")
        links = [e.proto for e in at.get("page_link") if e.proto.label == "Compare"]
        return max(link.query_string for link in links)  # the menu's has none

    add_run("mine", [0.3])
    assert linked() == "run=mine"
    add_run("baseline", [0.3])
    assert linked() == "run=mine&run=baseline"


def test_a_wrong_number_of_runs_at_a_time_is_said_where_runs_wait(open_page, add_run, no_worker, monkeypatch) -> None:
    add_run("waiting", [], state="queued")
    monkeypatch.setenv("FER_MAX_RUNS", "0")
    at = open_page("runs")
    assert not at.exception
    assert "FER\\_MAX\\_RUNS cannot be '0'" in " ".join(w.value for w in at.warning)
    assert not no_worker


def test_unknown_run_in_the_link_is_named(open_page, add_run) -> None:
    add_run("first", [0.3])
    at = open_page("runs", run="gone<b>")
    assert not at.exception
    assert "There is no run gone<b> here" in said(at)


def test_queued_run_can_be_stopped_and_asks_for_a_worker(open_page, add_run, no_worker) -> None:
    add_run("waiting", [], state="queued")
    at = open_page("runs")
    assert no_worker
    button(at, "Stop").click().run()
    assert not at.exception
    assert RunStore().get("waiting").state == "stopped"
    assert "Stop" not in labels(at)
    assert "Resume" in labels(at)


def test_what_waits_has_a_table_of_its_own_above_the_others(open_page, add_run) -> None:
    add_run("old", [0.3])
    add_run("waiting", [], state="queued")
    at = open_page("runs")
    assert [list(d.value["run"]) for d in at.dataframe[:2]] == [["waiting"], ["old"]]
    assert ["left" in d.value for d in at.dataframe[:2]] == [True, False]


def test_lost_run_says_so_and_can_be_resumed(open_page, add_run) -> None:
    add_run("gone", [0.3], state="running", epochs=5)
    at = open_page("runs")
    assert "Its process is gone" in said(at)
    button(at, "Resume").click().run()
    assert not at.exception
    assert RunStore().get("gone").state == "queued"


def test_an_imported_run_with_epochs_cannot_be_resumed(open_page, add_run) -> None:
    add_run("half", [0.3], epochs=5)
    store = RunStore()
    store.write_status("half", {"state": "stopped", "imported": 1.0, "epoch": 1})
    (store.root / "half" / "best.safetensors").write_bytes(b"x")
    at = open_page("runs", run="half")
    assert not at.exception and "Resume" not in labels(at)
    assert "It was imported, and what it needs to go on stayed behind. Clone it instead" in said(at)
    assert {"Clone", "Train on"} <= {link.label for link in at.get("page_link")}


def test_failed_run_shows_its_reason(open_page, add_run) -> None:
    add_run("bad", [0.3], epochs=5)
    store = RunStore()
    store.write_status("bad", {"state": "failed", "error": "The disk is full. Free some space."})
    at = open_page("runs")
    assert "The disk is full. Free some space." in said(at)


def test_broken_run_is_named_and_can_only_be_removed(open_page, add_run) -> None:
    add_run("fine", [0.3])
    broken = RunStore().root / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"sch')
    at = open_page("runs", run="broken")
    assert not at.exception
    assert "config.json is damaged" in said(at)
    assert "Delete" in labels(at)
    assert "Resume" not in labels(at)


def test_shipped_run_is_neither_renamed_nor_deleted(open_page, add_run) -> None:
    add_run("baseline", [0.3])
    (RunStore().root / "shipped.json").write_text(json.dumps(["baseline"]))
    at = open_page("runs")
    assert "Delete" not in labels(at)
    assert not [t for t in at.text_input if t.label == "Name"]
    button(at, "Archive").click().run()
    assert RunStore().get("baseline").notes.archived


def test_rename(open_page, add_run) -> None:
    add_run("mine", [0.3])
    at = open_page("runs")
    next(t for t in at.text_input if t.label == "Name").set_value("My *best* run").run()
    assert not at.exception
    assert RunStore().get("mine").name == "My *best* run"
    assert at.selectbox[0].options[0].startswith("My *best* run (")
    assert "My *best* run" in said(at)


def test_delete_asks_first(open_page, add_run) -> None:
    add_run("mine", [0.3])
    at = open_page("runs")
    assert button(at, "Delete").disabled
    next(c for c in at.checkbox if c.label.startswith("Delete")).check().run()
    button(at, "Delete").click().run()
    assert not at.exception
    assert RunStore().ids() == []
    assert "may have been deleted" not in said(at)


def test_deleting_a_member_names_the_ensemble_that_loses_it(open_page, add_run) -> None:
    for run_id in ("a", "b", "c"):
        add_run(run_id, [0.3])
    RunStore().create(Config(), recipe=None, data={}, run_id="both", kind="ensemble", members=["a", "b"])
    lost = "The ensemble both has it as a member and cannot answer without it."
    for run_id, named in (("a", True), ("c", False)):
        at = open_page("runs", run=run_id)
        assert lost not in said(at)
        next(c for c in at.checkbox if c.label.startswith("Delete")).check().run()
        assert (lost in said(at)) == named
    button(at, "Delete").click().run()
    assert not at.exception
    assert "c" not in RunStore().ids()
    assert "may have been deleted" not in said(at)


def test_another_run_chosen_by_hand_is_shown_and_stays(open_page, add_run) -> None:
    add_run("first", [0.3])
    add_run("second", [0.5])
    at = open_page("runs", run="second")
    at.selectbox[0].select("first").run()
    assert at.metric[0].value == "30.00 %"
    at.run()
    assert at.selectbox[0].value == "first"
    assert at.query_params["run"] in ("first", ["first"])


def test_a_link_opens_its_run_whatever_was_shown_in_this_session_before(open_page, add_run) -> None:
    add_run("first", [0.3])
    add_run("second", [0.5])
    at = open_page("runs", run="first")
    at.switch_page("pages/compare.py").run()
    at.switch_page("pages/runs.py")
    at.query_params["run"] = "second"
    at.run()
    assert not at.exception
    assert (at.selectbox[0].value, at.metric[0].value) == ("second", "50.00 %")
    at.selectbox[0].select("first").run()
    assert at.metric[0].value == "30.00 %"
    assert at.query_params["run"] in ("first", ["first"])
    at.switch_page("pages/compare.py").run()
    at.switch_page("pages/runs.py")
    at.query_params.clear()  # as the menu opens it
    at.run()
    assert at.selectbox[0].value == "first"


@pytest.mark.parametrize("alone", [False, True])
def test_a_link_to_an_archived_run_opens_it_and_says_that_it_is_archived(open_page, add_run, alone) -> None:
    add_run("usual", [0.3])
    add_run("put-away", [0.5])
    RunStore().annotate("put-away", archived=True)
    RunStore().annotate("usual", archived=alone)
    at = open_page("runs", run="put-away")
    assert not at.exception and not at.warning
    assert (at.selectbox[0].value, at.metric[0].value) == ("put-away", "50.00 %")
    assert at.selectbox[0].options[-1].endswith("archived")
    assert ":material/archive: archived" in said(at)
    assert [list(d.value["run"]) for d in at.dataframe[:1] if "run" in d.value] == [["usual"]] * (not alone)


def test_the_queue_is_paused_and_goes_on(open_page, add_run, no_worker) -> None:
    add_run("waiting", [], state="queued")
    at = open_page("runs")
    button(at, "Pause the queue").click().run()
    assert not at.exception
    assert jobs.paused(RunStore())
    assert "The queue is paused" in said(at)
    asked = len(no_worker)
    button(at, "Go on with the queue").click().run()
    assert not at.exception
    assert not jobs.paused(RunStore())
    assert len(no_worker) > asked


def test_a_queued_run_can_be_the_next(open_page, add_run) -> None:
    for name in ("first", "second"):
        add_run(name, [], state="queued")
    at = open_page("runs", run="second")
    button(at, "Run next").click().run()
    assert not at.exception
    assert [r.id for r in jobs.queue(RunStore())] == ["second", "first"]


def test_what_was_launched_together_is_stopped_as_one(open_page) -> None:
    store = RunStore()
    for seed in range(3):
        store.create(Config(), recipe="baseline", data={}, run_id=f"r{seed}", submission="abc")
    store.create(Config(), recipe="baseline", data={}, run_id="other")
    at = open_page("runs", run="r1")
    button(at, "Stop all 3").click().run()
    assert not at.exception
    assert {r.id: r.state for r in store.runs()} == {
        "r0": "stopped",
        "r1": "stopped",
        "r2": "stopped",
        "other": "queued",
    }


def test_a_failed_run_offers_the_settings_that_may_go_through(open_page, add_run) -> None:
    add_run("big", [0.3], epochs=5)
    RunStore().write_status("big", {"state": "failed", "error": "x", "try_instead": {"train.batch_size": 8, "<b>": 1}})
    at = open_page("runs")
    links = [e.proto for e in at.get("page_link")]
    assert [p.query_string for p in links if "Clone it with" in p.label] == ["clone=big&set=train.batch_size%3D8"]
    at = open_page("train", clone="big", set="train.batch_size=8")
    assert not at.exception
    assert next(n for n in at.number_input if n.key == "set-train.batch_size").value == 8
    at = open_page("train", clone="big", set="train.<b>=8")
    assert not at.exception


def test_a_finished_run_with_weights_can_be_trained_on(open_page, add_run) -> None:
    add_run("done", [0.3])
    at = open_page("runs", run="done")
    assert not [e for e in at.get("page_link") if e.proto.label == "Train on"]  # there is nothing to begin from
    (RunStore().folder("done") / "best.safetensors").write_bytes(b"weights")
    at = open_page("runs", run="done")
    (link,) = [e.proto for e in at.get("page_link") if e.proto.label == "Train on"]
    assert link.query_string.startswith("clone=done&set=model.from_run%3Ddone&set=model.pretrained%3Dfalse")


ON_RAY = {"address": "http://head:8265", "job": "fer-1", "cpus": 2, "gpus": 0.0, "memory_gib": 2.0}


def on_ray(run_id: str, state: str, **status) -> None:
    RunStore().write_status(run_id, {"state": state, "ray": {**ON_RAY, "said": "Its node went away."}, **status})


def test_a_run_on_a_cluster_says_where_and_asks_for_a_worker(open_page, add_run, no_worker, monkeypatch) -> None:
    monkeypatch.setattr("fer.ui.runs.cluster_problem", lambda _where: "The Ray cluster does not answer.")
    add_run("far", [], state="queued")
    on_ray("far", "queued")
    at = open_page("runs")
    assert not at.exception
    for words in (
        "Ray cluster at head:8265: 2 CPUs, no GPU and 2 GiB, job fer-1",
        "Its node went away",
        "The Ray cluster does not answer. Its runs keep what they saved",
    ):
        assert words in said(at).replace("\u2060", ""), words
    assert no_worker
    assert "Run next" not in labels(at)


def test_a_run_of_a_cluster_can_be_resumed_there_or_here(open_page, add_run, monkeypatch) -> None:
    monkeypatch.setattr(cluster, "check", lambda _where: None)
    add_run("far", [0.3], state="stopped", epochs=5)
    on_ray("far", "stopped")
    at = open_page("runs")
    button(at, "Resume").click().run()
    assert not at.exception
    assert RunStore().get("far").on_ray["job"] != "fer-1"
    RunStore().request_stop("far")
    at = open_page("runs")
    button(at, "Resume here").click().run()
    assert not at.exception
    assert (RunStore().get("far").state, RunStore().get("far").on_ray) == ("queued", None)


def test_a_lost_run_of_a_cluster_says_what_to_do(open_page, add_run, monkeypatch) -> None:
    monkeypatch.setattr("fer.ui.runs.cluster_problem", lambda _where: "")
    add_run("far", [0.3], state="running", epochs=5)
    on_ray("far", "running", updated=1.0)
    assert "Nothing was heard of it for a minute" in said(open_page("runs"))
