"""The Train page: what a visitor chooses is what is queued, and nothing else."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
from streamlit.testing.v1 import AppTest

from fer import cluster, jobs
from fer.config import SETTINGS, flatten, with_settings
from fer.data import dataset
from fer.errors import FerError
from fer.recipes import RECIPES, STUDY
from fer.runs import RunStore, hold
from fer.ui import launch, loaders, train_preview
from tests.app.conftest import said
from tests.made_runs import write_run

ROOT = Path(__file__).resolve().parents[2]
MODEL = {
    "name": "baseline",
    "input_shape": [3, 48, 48],
    "seen_side": 44,
    "num_params": 423_751,
    "multiply_adds": 26_519_936,
    "layers": [
        {
            "name": "0",
            "kind": "Conv2d",
            "detail": "5x5, 3 to 32",
            "output_shape": [32, 44, 44],
            "num_params": 2432,
            "multiply_adds": 4_646_400,
        },
        {
            "name": "1",
            "kind": "Linear",
            "detail": "512 to 7",
            "output_shape": [7],
            "num_params": 3591,
            "multiply_adds": 3584,
        },
    ],
}


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """Nothing is trained or timed here: the worker does not start, and the core's answers are ready."""

    def answer(*arguments):
        seconds = 4.0 if "model.name=grouped-conv" in arguments else 2.0
        return {
            "model": MODEL,
            "epoch_seconds": seconds,
            "device": "cpu",
            "device_name": "test",
            "precision": "fp32",
            "threads": 1,
        }

    monkeypatch.setattr(jobs, "ensure_worker", lambda store: None)
    monkeypatch.setattr(launch, "core_json", answer)
    monkeypatch.setattr(train_preview, "core_json_soon", answer)


@pytest.fixture
def page(store, tiny):
    return _open()


def _open(**query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30)
    at.switch_page("pages/train.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception
    return at


def _click(at: AppTest, label: str) -> AppTest:
    next(b for b in at.button if b.label == label).click().run()
    assert not at.exception
    return at


def _launch_label(at: AppTest) -> str:
    return next(b.label for b in at.button if str(b.key).startswith("launch-"))


def _mode(at: AppTest, name: str) -> AppTest:
    at.button_group(key="launch-mode").set_value(name).run()
    assert not at.exception
    return at


def _set(at: AppTest, path: str, value: object) -> AppTest:
    kind = "selectbox" if SETTINGS[path].choices else "number_input"
    getattr(at, kind)(key=f"set-{path}").set_value(value).run()
    assert not at.exception
    return at


def _text(at: AppTest) -> str:
    return "\n".join(
        x.value for kind in ("markdown", "caption", "error", "warning", "success", "code") for x in at.get(kind)
    )


def test_the_page_opens_on_the_baseline_and_one_launch_queues_one_run(page, store):
    assert page.selectbox(key="train-recipe").value == "baseline"
    assert page.selectbox(key="train-data").value == "tiny"
    assert "1 run" in _text(page) and "Free disk" in _text(page)
    _click(page, "Launch 1 run")
    (run,) = store.runs()
    assert (run.state, run.recipe, run.data_name, run.epochs) == ("queued", "baseline", "tiny", 25)
    assert "1 run queued" in page.success[0].value


def test_the_command_says_how_to_get_where_it_can_be_pasted(page):
    assert page.code[0].value == "python -m fer train --recipe baseline --dataset tiny --queue"
    assert "run `source .venv/bin/activate` first" in _text(page)


def _trained(store: RunStore, run_id: str, **settings: object) -> None:
    """A finished run with a file of weights, whatever is in it."""
    config = with_settings(RECIPES["baseline"].config(), {"data.name": "tiny", **settings})
    store.create(config, recipe="baseline", data={}, run_id=run_id)
    store.write_status(run_id, {"state": "finished"})
    (store.folder(run_id) / "best.safetensors").write_bytes(b"weights")


def test_a_run_can_begin_from_the_weights_of_another_of_its_network(tiny, store):
    _trained(store, "first")
    _trained(store, "other", **{"model.name": "compact"})
    store.create(RECIPES["baseline"].config(), recipe="baseline", data={}, run_id="waiting")
    at = _open()
    field = at.selectbox(key="set-model.from_run")
    assert (field.options, field.value) == (["first"], None)
    field.set_value("first").run()
    assert "begins from the best weights of run first" in said(at)
    _click(at, "Launch 1 run")
    (run,) = [r for r in store.runs() if r.config.model.from_run]
    assert run.config.model.from_run == "first" and run.recipe == "baseline"


def test_training_on_from_a_run_fills_the_form_and_what_does_not_fit_is_said(tiny, store):
    _trained(store, "first")
    at = _open(clone="first", set="model.from_run=first")
    assert at.selectbox(key="set-model.from_run").value == "first"
    assert "Begin from this run none → **first**" in _text(at)
    _set(at, "model.width", 0.5)
    _click(at, "Launch 1 run")
    assert "run 'first' has 1.0" in said(at)
    assert store.ids() == ["first"]


def test_the_picture_of_the_network_says_what_the_network_never_looks_at(page):
    assert "never looks at them" in said(page)


def test_a_double_click_launches_once(page, store):
    _click(page, "Launch 1 run")
    _click(page, "Launch 1 run")
    assert len(store.runs()) == 1


def test_a_later_click_launches_again(page, store, monkeypatch):
    monkeypatch.setattr(launch, "_DOUBLE_CLICK_SECONDS", 0.0)
    _click(page, "Launch 1 run")
    _click(page, "Launch 1 run")
    assert len(store.runs()) == 2


def test_a_bad_value_is_explained_and_launches_nothing(page, store):
    _set(page, "optim.lr", 0.0)
    assert "greater than 0, at most 10" in page.error[0].value and "Learning rate" in page.error[0].value
    button = next(b for b in page.button if str(b.key).startswith("launch-"))
    assert button.disabled
    assert not store.runs()
    _set(page, "optim.lr", 0.002)
    assert not page.error
    _click(page, "Launch 1 run")
    assert store.runs()[0].config.optim.lr == 0.002


def test_settings_that_do_not_fit_together_are_explained(page):
    _set(page, "train.epochs", 3)
    _set(page, "schedule.warmup_epochs", 3.0)
    assert "the warm\\-up must end before the run does" in page.error[0].value


def test_what_differs_from_the_recipe_is_listed_and_taken_back(page, store):
    _set(page, "train.epochs", 3)
    assert any("Epochs 25 → **3**" in m.value for m in page.markdown)
    assert "--set train.epochs=3" in page.code[0].value
    _click(page, "Reset")
    assert page.number_input(key="set-train.epochs").value == 25
    assert "All settings as in the recipe" in _text(page)


def test_a_recipe_says_what_it_brought_beside_the_baseline(store, tiny):
    assert "best val top" not in _text(_open(recipe="dropout"))
    for run_id, top, recipe in (("base", 0.5, "baseline"), ("drop", 0.6, "dropout")):
        write_run(store, run_id, [{"val_top1": top}], recipe=recipe, train__epochs=25)
    page = _open(recipe="dropout")
    assert "On fer2013, 25 epochs: best val top-1 **60.00 % (1 seed)**; the baseline 50.00 % (1 seed)." in said(
        page
    ).replace("\u00a0", " ")
    (link,) = [e.proto for e in page.get("page_link") if e.proto.label == "Compare with the baseline"]
    assert (link.page, link.query_string) == ("compare", "run=drop&run=base")
    page = _open(recipe="baseline")
    assert "On fer2013, 25 epochs: best val top-1 **50.00\u00a0% (1 seed)**." in said(page)
    _set(page, "seed", 4)
    assert "Without your changes" not in said(page)
    _set(page, "model.dropout", 0.5)
    assert "Without your changes, on fer2013, 25 epochs: best val top-1 **50.00\u00a0%" in said(page)


def test_only_the_schedule_s_own_settings_are_shown(page, store):
    keys = lambda: {w.key for w in page.number_input}  # noqa: E731
    assert "set-schedule.gamma" not in keys()
    _set(page, "schedule.name", "step")
    assert {"set-schedule.gamma", "set-schedule.step_size"} <= keys()
    assert "set-schedule.power" not in keys()
    _set(page, "schedule.gamma", 0.25)
    _set(page, "schedule.name", "constant")
    _click(page, "Launch 1 run")
    assert store.runs()[0].config.schedule.gamma == RECIPES["baseline"].config().schedule.gamma


def test_every_setting_can_be_reached(page):
    seen = set()
    for schedule in SETTINGS["schedule.name"].choices:
        _set(page, "schedule.name", schedule)
        seen |= _keys(page)
    _set(page, "optim.name", "sgd")
    seen |= _keys(page)
    for network in ("residual", "resnet18"):
        _set(page, "model.name", network)
        seen |= _keys(page)
    assert {f"set-{p}" for p in SETTINGS if p != "data.name"} <= seen
    helps = {w.key: w.help for w in page.number_input}
    assert "greater than 0, at most 10" in helps["set-optim.lr"]


def _keys(at: AppTest) -> set[str]:
    return {str(w.key) for kind in ("number_input", "selectbox", "checkbox", "text_input") for w in at.get(kind)}


def test_each_network_shows_only_the_settings_that_it_uses(page):
    of_a_backbone = {f"set-{p}" for p in ("model.input_side", "model.pretrained", "model.weights")}
    of_a_backbone |= {"set-train.freeze_epochs", "set-optim.layer_decay"}
    of_the_study = {"set-model.hidden_layers", "set-model.batch_norm"}
    assert of_the_study <= _keys(page) and not of_a_backbone & _keys(page)
    _set(page, "model.name", "convnext-tiny")
    assert of_a_backbone <= _keys(page) and not (of_the_study | {"set-model.width"}) & _keys(page)
    _set(page, "model.name", "compact")
    assert "set-model.width" in _keys(page) and not (of_the_study | of_a_backbone) & _keys(page)


def test_a_network_for_transfer_learning_is_launched_with_its_file(store, tiny, tmp_path):
    page = _open(recipe="transfer-resnet18")
    assert "torchvision's resnet18-f37072fd.pth, fetched at the start, once (45 MB)" in said(page).replace("\\", "")
    assert "each stage before it learns at 0.7 times the next one's" in said(page)
    assert "In the first epoch only the last layer learns" in said(page)
    page.text_input(key="set-model.weights").set_value(str(tmp_path / "mine.pth")).run()
    _click(page, "Launch 1 run")
    assert "There is no file" in page.error[0].value and not store.runs()
    (tmp_path / "mine.pth").write_bytes(b"x")
    page = _open(recipe="transfer-resnet18")
    page.text_input(key="set-model.weights").set_value(str(tmp_path / "mine.pth")).run()
    _click(page, "Launch 1 run")
    assert store.runs()[0].config.model.weights == str(tmp_path / "mine.pth")
    assert f"model.weights={tmp_path / 'mine.pth'}" in page.code[0].value


def test_weights_that_cannot_be_fetched_are_said_and_nothing_is_queued(store, tiny, monkeypatch):
    def refuse(*_args, **_options):
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    page = _open(recipe="transfer-resnet18")
    _click(page, "Launch 1 run")
    assert "no route to host" in page.error[0].value and "model.weights" in page.error[0].value.replace("\\", "")
    assert not store.runs()


def test_another_network_takes_off_what_was_for_the_recipes_own(store, tiny):
    for recipe in ("strong", "transfer-resnet18"):
        page = _open(recipe=recipe)
        _set(page, "model.name", "baseline")
        assert not page.error
    _click(page, "Launch 1 run")
    (run,) = store.runs()
    assert (run.config.model.pretrained, run.config.train.freeze_epochs, run.config.optim.layer_decay) == (False, 0, 1)


def test_the_study_leaves_out_what_its_networks_do_not_use(store, tiny):
    page = _open(recipe="transfer-resnet18")
    _set(page, "train.freeze_epochs", 3)
    _set(page, "train.label_smoothing", 0.2)
    _mode(page, "The study")
    _click(page, "Launch the study (4 runs)")
    runs = store.runs()
    assert len(runs) == 4
    assert {(r.config.train.freeze_epochs, r.config.train.label_smoothing) for r in runs} == {(0, 0.2)}


def test_the_disk_must_hold_what_is_planned(monkeypatch, store, tiny):
    def warned(free: float, **query: str) -> str:
        monkeypatch.setattr(launch, "free_bytes", lambda _: free)
        return " ".join(w.value for w in _open(**query).warning)

    assert "needs about 10 MB" in warned(0.9e9) and "on the disk" not in warned(1.1e9)
    backbone = {"recipe": "transfer-resnet18", "set": "model.name=alexnet"}
    assert "What is planned needs about 1.2 GB" in warned(2.3e9, **backbone)
    assert "on the disk" not in warned(2.4e9, **backbone)
    config = with_settings(RECIPES["transfer-resnet18"].config(), {"model.name": "alexnet"})
    assert launch._backbones_bytes([(None, config)] * 3) == pytest.approx(3 * 1.165e9)
    mean = with_settings(config, {"train.ema_decay": 0.999})  # 6 times its 228 MB
    assert launch._backbones_bytes([(None, mean)]) == pytest.approx(1.4e9, rel=0.01)
    assert launch._backbones_bytes([("baseline", RECIPES["baseline"].config())]) == 0


def test_the_time_of_frozen_epochs_is_taken_off():
    config = with_settings(RECIPES["transfer-resnet18"].config(), {"train.epochs": 5, "train.freeze_epochs": 2})
    measured = {launch.time_arguments(config): {"epoch_seconds": 10.0, "frozen_epoch_seconds": 4.0}}
    plan = [("transfer-resnet18", config)]
    assert launch.seconds_of(plan, measured) == (10.0, 10.0, 38.0)
    said = launch._time_text(plan, (10.0, 10.0, 38.0), launch._first_epochs(plan, measured))
    assert said == "About **10 s** an epoch, the first 2 epochs **4.0 s** each, **38 s** in all."
    frozen = [("transfer-resnet18", with_settings(config, {"train.epochs": 2}))]
    assert launch.seconds_of(frozen, measured) == (4.0, 4.0, 8.0) and launch._first_epochs(frozen, measured) == ""
    both = [*plan, ("transfer-resnet18", with_settings(config, {"train.freeze_epochs": 0}))]
    assert launch._first_epochs(both, measured) == ""  # not of all of them


def test_a_time_holds_for_runs_that_begin_elsewhere():
    config = with_settings(RECIPES["baseline"].config(), {"model.from_run": "first"})
    assert launch.time_arguments(config) == launch.time_arguments(RECIPES["baseline"].config())
    frozen = with_settings(config, {"model.name": "resnet18", "train.freeze_epochs": 1})
    assert "model.from_run=first" in launch.time_arguments(frozen)  # or nothing could be frozen


def test_another_recipe_keeps_own_changes_and_sets_its_schedule(page):
    _set(page, "train.epochs", 4)
    page.selectbox(key="train-recipe").set_value("exponential-decay").run()
    assert page.number_input(key="set-train.epochs").value == 4
    assert page.number_input(key="set-schedule.gamma").value == 0.9


def test_seeds_launch_that_many_runs(page, store):
    _set(page, "seed", 5)
    _mode(page, "Seeds")
    assert "**3 runs**" in _text(page) and "5, 6, 7" in _text(page)
    _click(page, "Launch 3 runs")
    runs = store.runs()
    assert sorted(r.config.seed for r in runs) == [5, 6, 7]
    assert len({r.config.experiment for r in runs}) == 1
    assert "3 runs queued" in page.success[0].value


@pytest.mark.parametrize("n", [0, -1, 201])
def test_an_impossible_number_of_seeds_is_explained(page, store, n):
    _mode(page, "Seeds")
    page.number_input(key="seed-count").set_value(n).run()
    assert "at least 1, at most 200" in page.warning[0].value
    assert _launch_label(page) == "Launch"


def test_the_grid_states_the_number_of_runs_first(page, store):
    _mode(page, "Grid")
    page.multiselect(key="grid-settings").set_value(["optim.lr", "model.name"]).run()
    assert "has no values yet" in page.warning[0].value
    page.text_input(key="grid-optim.lr").set_value("0.001, 1e-3,0.0005,0.002").run()
    page.multiselect(key="grid-model.name").set_value(["baseline", "grouped-conv"]).run()
    assert not page.exception
    assert "**6 runs**" in _text(page), "equal values count once"
    assert not store.runs()
    _click(page, "Launch 6 runs")
    found = {(r.config.optim.lr, r.config.model.name) for r in store.runs()}
    assert found == {(lr, net) for lr in (0.001, 0.0005, 0.002) for net in ("baseline", "grouped-conv")}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("0.1, many", "optim\\.lr cannot be 'many'"),
        ("20", "at most 10"),
        (",".join(f"0.{i:03}" for i in range(1, 202)), "201 runs"),
    ],
)
def test_a_grid_that_cannot_be_is_explained(page, store, values, sentence):
    _mode(page, "Grid")
    page.multiselect(key="grid-settings").set_value(["optim.lr"]).run()
    page.text_input(key="grid-optim.lr").set_value(values).run()
    assert not page.exception
    assert sentence in page.warning[0].value
    assert _launch_label(page) == "Launch"


def test_several_runs_are_one_command(page):
    _set(page, "seed", 5)
    _set(page, "train.epochs", 3)
    _mode(page, "Seeds")
    page.number_input(key="seed-count").set_value(12).run()
    line = "python -m fer train --recipe baseline --dataset tiny --seed 5 --set train.epochs=3"
    assert page.code[0].value == f"{line} --seeds 12"
    _mode(page, "Grid")
    page.multiselect(key="grid-settings").set_value(["optim.lr", "model.name"]).run()
    page.text_input(key="grid-optim.lr").set_value("0.001, 0.0005").run()
    page.multiselect(key="grid-model.name").set_value(["baseline", "grouped-conv"]).run()
    assert page.code[0].value == f"{line} --grid optim.lr=0.001,0.0005 --grid model.name=baseline,grouped-conv"
    assert "Without" not in _text(page)
    _mode(page, "The study")
    assert [command.split()[5] for command in page.code[0].value.splitlines()] == list(STUDY)


def test_the_study_launches_its_four_on_the_chosen_data(page, store):
    _set(page, "train.epochs", 2)
    _set(page, "schedule.name", "cosine")
    _mode(page, "The study")
    assert "**4 runs**" in _text(page)
    _click(page, "Launch the study (4 runs)")
    runs = {r.recipe: r.config for r in store.runs()}
    assert set(runs) == set(STUDY)
    for recipe, config in runs.items():
        own = RECIPES[recipe].config()
        assert (config.schedule, config.model) == (own.schedule, own.model)
        assert (config.data.name, config.train.epochs) == ("tiny", 2)


def test_the_time_is_measured_on_demand_for_all_runs(page):
    assert "not measured yet" in _text(page)
    _mode(page, "The study")
    _click(page, "Measure the time")
    text = _text(page)
    assert "**2.0 s to 4.0 s** an epoch" in text
    assert "**4 min** for all 4" in text, "25 epochs of 2, 2, 2 and 4 s"
    _mode(page, "One run")
    assert "**50 s** in all" in _text(page)
    _set(page, "train.batch_size", 32)
    assert "not measured yet" in _text(page)


def test_what_is_finished_first_is_said_only_where_no_place_is_free(tiny, store, monkeypatch):
    for run_id in ("trains", "waits", "by-hand"):
        store.create(RECIPES["baseline"].config(), recipe="baseline", data={}, run_id=run_id)
    store.write_status("trains", {"state": "running", "worker": "here"})
    store.write_status("by-hand", {"state": "running"})  # in a terminal, which no worker counts

    def told(places: int) -> list[str]:
        monkeypatch.setenv("FER_MAX_RUNS", str(places))
        return [c.value.split(": ", 1)[1] for c in _open().caption if "running or queued" in c.value]

    with hold(store.root / "trains" / "run.lock"), hold(store.root / "by-hand" / "run.lock"):
        assert told(1) == ["2 runs are running or queued and will be finished first."]
        assert told(2) == ["2 runs are running or queued, 2 at a time: the next starts when 1 of them has ended."]
        assert told(3) == told(4) == []
        store.create(RECIPES["baseline"].config(), recipe="baseline", data={}, run_id="last")
        assert told(2) == ["3 runs are running or queued, 2 at a time: the next starts when 2 of them have ended."]


def test_a_clone_has_the_run_s_settings(make_run):
    run = make_run("old", recipe="step-decay", schedule__name="step", schedule__gamma=0.25, optim__momentum=0.5, seed=9)
    page = _open(clone="old")
    assert page.selectbox(key="train-recipe").value == "step-decay"
    assert page.number_input(key="set-schedule.gamma").value == 0.25
    assert "Filled from run **old**" in _text(page)
    _click(page, "Launch 1 run")
    new = next(r for r in RunStore().runs() if r.id != "old")
    assert flatten(new.config) == flatten(run.config)


def test_a_clone_of_what_is_not_there_is_explained(page, make_run):
    assert "There is no run" in _open(clone="nowhere").warning[0].value
    assert "cannot be a run id" in _open(clone="../x").warning[0].value
    run = make_run("broken")
    (run.path / "config.json").write_text("{")
    assert "damaged" in _open(clone="broken").warning[0].value


def test_a_clone_on_data_that_is_gone_asks_for_another(make_run, tiny):
    make_run("old")
    dataset.save(replace(tiny, name="other"))
    dataset.delete("tiny")
    page = _open(clone="old")
    assert "not prepared here" in page.warning[0].value.replace("\\", "")
    assert "Choose a data set first" in page.error[0].value
    page.selectbox(key="train-data").set_value("other").run()
    assert not page.exception and not page.error
    assert "on other" in _text(page)


def test_a_clone_on_other_data_of_that_name_says_that_the_two_do_not_compare(make_run, tiny):
    make_run("old")
    assert not _open(clone="old").warning
    dataset.save(replace(tiny, images=255 - tiny.images, fingerprint=""))
    page = _open(clone="old")
    assert "'tiny' here is not the one that 'old' learned from" in page.warning[0].value.replace("\\", "")
    assert not page.error


def test_a_link_can_choose_recipe_and_data(page, tiny):
    dataset.save(replace(tiny, name="other"))
    page = _open(recipe="step-decay", dataset="other")
    assert page.selectbox(key="train-recipe").value == "step-decay"
    assert page.selectbox(key="train-data").value == "other"
    assert page.number_input(key="set-schedule.step_size").value == 5
    assert "Did you mean 'step\\-decay'" in _open(recipe="step-decoy").warning[0].value


def test_several_data_sets_without_a_default_must_be_chosen_from(tiny, store):
    dataset.save(replace(tiny, name="other"))
    page = _open()
    assert page.selectbox(key="train-data").value is None
    assert "Choose a data set first" in page.error[0].value
    page.selectbox(key="train-data").set_value("other").run()
    _click(page, "Launch 1 run")
    assert store.runs()[0].data_name == "other"


def test_a_store_that_cannot_be_written_is_explained(page, store, read_only):
    read_only(store.root)
    _click(page, "Launch 1 run")
    assert page.error and not page.success


def test_the_page_does_not_wait_for_the_layers(page, monkeypatch):
    ready, answers = threading.Event(), iter([{"model": MODEL}, FerError("This machine is busy.")])

    def slow(*arguments):
        ready.wait(30)
        answer = next(answers)
        if isinstance(answer, FerError):
            raise answer
        return answer

    monkeypatch.setattr(loaders, "core_json", slow)
    monkeypatch.setattr(loaders, "_STARTED", {})  # another test's answer may wait there for whoever asks
    monkeypatch.setattr(train_preview, "core_json_soon", loaders.core_json_soon)
    page.run()
    assert not page.exception
    assert "Working out the layers" in said(page)
    ready.set()
    page.run()
    assert "423,751" in [m.value for m in page.metric]
    page.run()
    assert "This machine is busy." in said(page)
    assert "Working out the layers" not in said(page)


def test_the_page_runs_without_torch(tmp_path, tiny):
    script = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        "from fer.ui import train_preview\n"
        "from fer.errors import FerError\n"
        "def refuse(*arguments): raise FerError('not now')\n"
        "train_preview.core_json_soon = refuse\n"
        "at = AppTest.from_file('streamlit_app.py', default_timeout=60)\n"
        "at.switch_page('pages/train.py').run()\n"
        "assert not at.exception and at.selectbox(key='train-recipe').value == 'baseline'\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_remedy_s_link_opens_the_clone_with_that_one_change(make_run):
    make_run("old", recipe="step-decay", schedule__name="step", seed=9)
    page = _open(clone="old", set=["model.dropout=0.3", "train.batch_size=32"])
    assert page.number_input(key="set-seed").value == 9
    assert page.number_input(key="set-train.batch_size").value == 32
    _click(page, "Launch 1 run")
    new = next(r for r in RunStore().runs() if r.id != "old")
    assert new.config.model.dropout == 0.3 and new.config.schedule.name == "step"
    assert "no setting" in _open(clone="old", set="model.dropuot=1").warning[0].value.replace("\\", "")


# Where: here, or on a Ray cluster


@pytest.fixture
def cluster_at(monkeypatch):
    """`cluster_at(problem)`: FER_RAY_ADDRESS is set, and this is wrong with the cluster there, '' for nothing."""

    def at(problem: str = "") -> None:
        monkeypatch.setenv("FER_RAY_ADDRESS", "http://head:8265")
        monkeypatch.setattr(launch, "cluster_problem", lambda _where: problem)
        monkeypatch.setattr(cluster, "check", lambda _where: None)

    return at


def _on_ray(at: AppTest) -> AppTest:
    at.button_group(key="launch-on").set_value("ray").run()
    assert not at.exception
    return at


def test_without_an_address_nobody_is_asked_where(page, store):
    assert "launch-on" not in {b.key for b in page.button_group}


def test_runs_launched_on_ray_say_so_and_ask_for_what_was_chosen(tiny, store, cluster_at):
    cluster_at()
    at = _open()
    assert at.button_group(key="launch-on").value == "machine"
    _on_ray(at)
    assert [n.placeholder for n in at.number_input if str(n.key).startswith("ray-")] == ["2", "0", "2"]
    at.number_input(key="ray-cpus").set_value(3).run()
    at.number_input(key="ray-memory").set_value(1.5).run()
    _mode(at, "Seeds")
    assert at.code[0].value.endswith("--dataset tiny --seeds 3 --on ray --cpus 3 --memory 1.5")
    _click(at, "Launch 3 runs")
    assert "They train on the Ray cluster" in _text(at)
    runs = store.runs()
    assert {(r.state, r.on_ray["address"], r.on_ray["cpus"], r.on_ray["memory_gib"]) for r in runs} == {
        ("queued", "http://head:8265", 3, 1.5)
    }
    assert len({r.on_ray["job"] for r in runs}) == 3


def test_an_address_alone_launches_here(tiny, store, cluster_at):
    cluster_at("unused")
    _click(_open(), "Launch 1 run")
    assert store.runs()[0].on_ray is None


def test_a_cluster_that_does_not_answer_is_said_and_nothing_can_be_launched_there(tiny, store, cluster_at):
    cluster_at("The Ray cluster at head:8265 does not answer.")
    at = _on_ray(_open())
    assert "The Ray cluster at head:\u20608265 does not answer" in said(at)  # which no browser takes for a link
    assert next(b for b in at.button if str(b.key).startswith("launch-")).disabled
    at.button_group(key="launch-on").set_value("machine").run()
    _click(at, "Launch 1 run")
    assert len(store.runs()) == 1


def test_what_a_cluster_cannot_be_asked_for_is_said(tiny, store, cluster_at):
    cluster_at()
    at = _on_ray(_open())
    at.number_input(key="ray-gpus").set_value(3.0).run()
    assert "GPUs cannot be 3. Allowed: 0 to 1" in said(at)
    assert next(b for b in at.button if str(b.key).startswith("launch-")).disabled


def test_a_page_that_only_shows_launches_nothing_on_ray_either(tiny, store, cluster_at, monkeypatch):
    cluster_at()
    monkeypatch.setenv("FER_READ_ONLY", "1")
    at = _on_ray(_open())
    assert not [b for b in at.button if str(b.key).startswith("launch-")]
