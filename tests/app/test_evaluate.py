"""Evaluate: nothing to show, a saved report, none yet, other data, a store that cannot be written, damaged files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fer.data import dataset
from fer.data.dataset import CLASSES
from fer.metrics import summarise
from fer.ui import evaluate
from fer.ui.evaluate import confusion_sentences
from fer.ui.parts import percent
from fer.verdicts import read_logits
from tests.app.conftest import said, set_record
from tests.conftest import draw_blobs


def metrics(at) -> dict[str, str]:
    return {m.label: m.value for m in at.metric}


def figure(at) -> dict:
    return json.loads(at.get("plotly_chart")[0].proto.spec)


def press_evaluate(at):
    return next(b for b in at.button if (b.key or "").startswith("evaluate")).click().run()


def test_an_empty_store_says_what_to_do(open_page) -> None:
    at = open_page("evaluate")
    assert not at.exception
    assert "There is no network to look into yet" in said(at)


def test_a_run_without_weights_and_report_is_nothing_to_look_into(open_page, add_run) -> None:
    add_run("queued", [], state="queued")
    assert "There is no network to look into yet" in said(open_page("evaluate"))


def test_a_saved_report_is_shown_at_once(open_page, finished_run) -> None:
    report = finished_run.report("val")
    at = open_page("evaluate")
    assert not at.exception
    assert metrics(at) == {
        "Top-1": f"{100 * report['top1']:.2f} %",
        "Macro F1": f"{100 * report['macro_f1']:.2f} %",
        "Loss": f"{report['loss']:.4f}",
        "Pictures": "70",
    }
    table = at.dataframe[0].value
    assert list(table["Class"]) == list(CLASSES) and table["Pictures"].sum() == 70
    assert table["Recall"][0] == pytest.approx(100 * report["per_class"]["angry"]["recall"])
    assert not [b for b in at.button if (b.key or "").startswith("evaluate")]


@pytest.mark.parametrize(
    ("duplicates", "shown"),
    [
        ({"in_train": 10, "top1_without": 0.9125}, True),
        ({"in_train": 0, "top1_without": 0.5}, False),
        ({"in_train": 70, "top1_without": None}, False),
        ({"in_train": "many"}, False),
        (None, False),
    ],
)
def test_pictures_that_stand_in_train_too_are_counted_and_left_out(open_page, finished_run, duplicates, shown) -> None:
    path = finished_run.path / "report.json"
    content = json.loads(path.read_text())
    content["reports"][finished_run.fingerprint]["val"]["duplicates"] = duplicates
    path.write_text(json.dumps(content))
    at = open_page("evaluate")
    assert not at.exception and ("stand in train too" in said(at)) is shown
    assert not shown or "10 of these pictures stand in train too; top-1 without them is 91.25 %." in said(at)


def test_on_other_data_it_says_how_many_it_learned_from(open_page, finished_run, store, tiny) -> None:
    images = tiny.images.copy()
    images[140:150] = images[:10]
    images[10:140] = draw_blobs(seed=9).images[10:140]
    dataset.save(replace(tiny, name="mixed", images=images, fingerprint=""))
    at = press_evaluate(open_page("evaluate", data="mixed"))
    assert not at.exception
    without = store.get("done").report("val", dataset.load("mixed").fingerprint)["duplicates"]["top1_without"]
    known = "10 of these pictures are among those that it learned from, the training pictures of tiny; top-1 without them is"
    assert f"{known} {percent(without)}." in said(at)


def test_the_numbers_in_the_cells_follow_the_url(open_page, finished_run) -> None:
    counts = figure(open_page("evaluate"))["data"][1]["text"]
    assert sum(int(t) for t in counts) == 70
    by_row = figure(open_page("evaluate", view="By row"))["data"][1]["text"]
    assert all(t.endswith("%") for t in by_row)


def test_a_missing_report_is_made_at_the_press_of_a_button_and_kept(open_page, finished_run, store) -> None:
    (finished_run.path / "report.json").unlink()
    at = open_page("evaluate")
    assert "Not evaluated yet" in said(at) and not at.metric
    press_evaluate(at)
    assert not at.exception and metrics(at)["Pictures"] == "70"
    kept = store.get("done").report("val")
    assert kept["top1"] == finished_run.best["val_top1"]


def test_another_split_is_evaluated_on_request(open_page, finished_run) -> None:
    at = press_evaluate(open_page("evaluate", split="train"))
    assert not at.exception and metrics(at)["Pictures"] == "140"


def test_another_data_set_with_the_same_classes_can_be_chosen_and_is_named(open_page, finished_run) -> None:
    dataset.save(replace(draw_blobs(seed=5), name="twin", fingerprint=""))
    dataset.save(replace(draw_blobs(seed=6), name="stranger", classes=("a", *CLASSES[1:]), fingerprint=""))
    set_record(finished_run, split_note="Only one split is held out.")
    assert "Only one split is held out." in said(open_page("evaluate"))
    at = open_page("evaluate", data="twin")
    assert at.selectbox(key="data").options == ["tiny", "twin", "sample"]
    press_evaluate(at)
    assert not at.exception and metrics(at)["Pictures"] == "70"
    assert "Evaluated on twin; the run was trained on tiny." in said(at)
    assert "Only one split" not in said(at), "that is said of the other data set"


def test_without_the_data_set_the_saved_report_still_shows(open_page, finished_run, tmp_path) -> None:
    (tmp_path / "data" / "tiny.npz").unlink()
    at = open_page("evaluate")
    assert not at.exception and metrics(at)["Pictures"] == "70"


def test_without_data_set_and_report_the_button_explains(open_page, finished_run, tmp_path) -> None:
    (tmp_path / "data" / "tiny.npz").unlink()
    (finished_run.path / "report.json").unlink()
    at = press_evaluate(open_page("evaluate"))
    assert not at.exception
    assert "There is no prepared data set 'tiny'" in said(at)


def test_data_that_changed_since_the_training_is_said(open_page, finished_run) -> None:
    (finished_run.path / "report.json").unlink()
    dataset.save(draw_blobs(seed=9))
    at = press_evaluate(open_page("evaluate"))
    assert not at.exception and metrics(at)["Pictures"] == "70"
    assert "is no longer the one that the run was trained on" in said(at)


def test_a_report_on_data_that_changed_since_the_training_is_found_by_the_next_visitor(open_page, finished_run) -> None:
    (finished_run.path / "report.json").unlink()
    changed = draw_blobs(seed=9)
    dataset.save(changed)
    press_evaluate(open_page("evaluate"))
    at = open_page("evaluate")
    assert not at.exception and "Not evaluated yet" not in said(at)
    assert metrics(at)["Top-1"] == f"{100 * finished_run.report('val', changed.fingerprint)['top1']:.2f} %"
    assert "is no longer the one that the run was trained on" in said(at)


def test_the_report_on_the_data_of_the_training_stands_before_one_on_what_they_became(
    open_page, finished_run, store
) -> None:
    changed = draw_blobs(seed=9)
    dataset.save(changed)
    report = {**finished_run.report("val"), "fingerprint": changed.fingerprint, "n": 1}
    store.save_report("done", changed.fingerprint, "val", report)
    at = open_page("evaluate")
    assert metrics(at)["Pictures"] == "70" and "is no longer the one" not in said(at)


def test_a_store_that_cannot_be_written_still_gives_the_answer(open_page, finished_run, store, read_only) -> None:
    (finished_run.path / "report.json").unlink()
    read_only(store.root)
    at = press_evaluate(open_page("evaluate"))
    assert not at.exception and metrics(at)["Pictures"] == "70"
    assert "lasts for this session only" in said(at)


def test_a_report_without_weights_shows_and_offers_no_other(open_page, finished_run) -> None:
    (finished_run.path / "best.safetensors").unlink()
    assert metrics(open_page("evaluate"))["Pictures"] == "70"
    at = open_page("evaluate", split="train")
    assert "The run has no weights" in said(at) and not [b for b in at.button if (b.key or "").startswith("evaluate")]


def test_an_ensemble_without_a_member_names_it_and_the_trash(open_page, finished_run, store) -> None:
    shutil.copytree(finished_run.path, store.root / "other")
    store.create(
        finished_run.config, recipe=None, data=finished_run.record["data"], run_id="both", kind="ensemble",
        members=["done", "other"],
    )  # fmt: skip
    store.append_metrics("both", {**finished_run.best, "epoch": 1})
    store.write_status("both", {"state": "finished", "epoch": 1})
    store.save_report("both", finished_run.fingerprint, "val", finished_run.report("val"))
    store.delete("other")
    at = open_page("evaluate", run="both", split="train")
    assert not at.exception and "The run has no weights" not in said(at)
    needs = "needs its member 'other', which is in the trash (python -m fer runs trash restore other)"
    assert needs in said(at)
    assert needs in said(open_page("predict"))
    assert needs in said(open_page("evaluate", run="both"))  # where ten views would be offered
    store.restore("other")
    assert needs not in said(open_page("predict"))


def test_a_report_of_an_earlier_epoch_can_be_renewed(open_page, finished_run, store) -> None:
    report = finished_run.report("val")
    store.save_report("done", finished_run.fingerprint, "val", {**report, "epoch": 99, "n": 1})
    at = open_page("evaluate")
    assert "This report is of epoch 99" in said(at)
    assert "not those of its best epoch" in said(open_page("evaluate", tab="Calibration"))
    press_evaluate(at)
    assert metrics(at)["Pictures"] == "70" and "This report is of epoch" not in said(at)


@pytest.mark.parametrize(
    "damage",
    [
        {"confusion_matrix": [[1]]},
        {"per_class": {}},
        {"top1": None},
        {"classes": 7},
        {"per_class": {c: {"precision": 1} for c in CLASSES}},
    ],
)
def test_a_damaged_report_counts_as_none(open_page, finished_run, damage) -> None:
    path = finished_run.path / "report.json"
    content = json.loads(path.read_text())
    content["reports"][finished_run.fingerprint]["val"].update(damage)
    path.write_text(json.dumps(content))
    at = open_page("evaluate")
    assert not at.exception and "Not evaluated yet" in said(at)


def test_a_damaged_data_set_beside_it_hides_nothing(open_page, finished_run, tmp_path) -> None:
    (tmp_path / "data" / "other.npz").write_bytes(b"PK no")
    at = open_page("evaluate")
    assert not at.exception and metrics(at)["Pictures"] == "70"
    assert at.selectbox(key="data").options == ["tiny", "sample"]


def test_damaged_weights_are_a_sentence(open_page, finished_run) -> None:
    (finished_run.path / "report.json").unlink()
    (finished_run.path / "best.safetensors").write_bytes(b"\0" * 64)
    at = press_evaluate(open_page("evaluate"))
    assert not at.exception and "damaged" in at.error[0].value


def test_a_broken_run_is_left_out_and_named_by_a_link(open_page, finished_run, store) -> None:
    (store.root / "broken").mkdir()
    (store.root / "broken" / "config.json").write_text("{")
    at = open_page("evaluate", run="broken")
    assert not at.exception and at.selectbox[0].value == "done"
    assert "The link names the run broken" in said(at)


def test_with_many_runs_the_best_on_photographs_comes_first(open_page, finished_run, store) -> None:
    for run_id in ("a-copy", "b-copy"):
        shutil.copytree(finished_run.path, store.root / run_id)
    set_record(finished_run, synthetic=True)
    at = open_page("evaluate")
    assert not at.exception
    assert at.selectbox[0].value in ("a-copy", "b-copy") and len(at.selectbox[0].options) == 3
    assert "Synthetic" not in said(at)
    at.selectbox[0].set_value("done").run()
    assert "Synthetic: done was trained on faces drawn by FER Lab" in said(at)


def test_the_biggest_confusions_are_sentences() -> None:
    matrix = np.diag([384, 100])
    matrix[0, 1] = 112
    assert confusion_sentences(matrix, ["fear", "sad"]) == ["fear is most often taken for sad: 112 of 496."]


@pytest.fixture
def second_run(finished_run, store):
    """A run beside 'done' on the same pictures, whose logits say the next class for the first ten."""
    shutil.copytree(finished_run.path, store.root / "other")
    path = store.root / "other" / "logits-val.npz"
    with np.load(path) as saved:
        parts = dict(saved)
    parts["logits"] = np.eye(7)[(parts["labels"] + (np.arange(70) < 10)) % 7].astype(np.float32) * 4
    np.savez(path, **parts)
    content = json.loads((store.root / "other" / "report.json").read_text())
    report = content["reports"][finished_run.fingerprint]["val"]
    report.update(summarise(parts["logits"], parts["labels"], CLASSES), epoch=1)
    (store.root / "other" / "report.json").write_text(json.dumps(content))
    metrics = (store.root / "other" / "metrics.jsonl").read_text().splitlines()
    best = json.loads(metrics[0]) | {"val_top1": report["top1"]}
    (store.root / "other" / "metrics.jsonl").write_text(json.dumps(best) + "\n")
    return store.get("other")


def test_two_runs_stand_beside_each_other_with_their_difference(open_page, second_run) -> None:
    at = open_page("evaluate", run="other", **{"with": "done"}, view="Difference")
    assert not at.exception
    assert at.selectbox(key="pick-with").value == "done"
    assert "other minus done, in pictures" in said(at)
    counts = [int(t) for t in figure(at)["data"][1]["text"]]
    assert sum(counts) == 0 and len(counts) == 49
    assert [m.label for m in at.metric].count("Top-1") == 2 and len(at.dataframe) == 2
    assert "shared pictures" in said(at)
    assert not at.warning


def test_a_second_run_that_is_not_there_is_named(open_page, second_run) -> None:
    at = open_page("evaluate", run="other", **{"with": "gone<b>"})
    assert not at.exception and at.selectbox(key="pick-with").value is None
    assert "The link names the run gone<b> as the second, which cannot be shown here." in said(at)
    assert "with" not in at.query_params
    assert not open_page("evaluate", run="other", **{"with": "other"}).warning, "it is the first already"


@pytest.fixture
def matrix_csv(monkeypatch) -> dict[str, list[list[float]]]:
    """`{file name: numbers}` of the matrices that a page offers as CSV."""
    found, real = {}, evaluate.csv_button

    def kept(rows, name, **options):
        if "confusion" in name:
            found[name] = [list(row.values())[1:] for row in rows]
        real(rows, name, **options)

    monkeypatch.setattr(evaluate, "csv_button", kept)
    return found


def test_the_csv_of_the_matrix_holds_the_numbers_that_are_shown(open_page, second_run, matrix_csv, store) -> None:
    mine, theirs = (np.array(store.get(r).report("val")["confusion_matrix"]) for r in ("other", "done"))
    for view in ("Counts", "By row", "By column", "Difference"):
        assert not open_page("evaluate", run="other", **{"with": "done"}, view=view).exception
    assert matrix_csv["fer-lab-confusion-other"] == mine.tolist()
    by_row, by_column = (np.array(matrix_csv[f"fer-lab-confusion-other-by-{axis}"]) for axis in ("row", "column"))
    np.testing.assert_allclose(by_row, mine / 10)
    np.testing.assert_allclose(by_column, mine / mine.sum(axis=0))
    assert matrix_csv["fer-lab-confusion-other-minus-done"] == (mine - theirs).tolist()


def test_two_runs_whose_settings_cannot_be_read_stand_beside_each_other(open_page, second_run, store) -> None:
    for run_id in ("done", "other"):
        path = store.root / run_id / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "config": {"model": {"name": "gone"}}}))
        assert store.get(run_id).config is None
    at = open_page("evaluate", run="other", **{"with": "done"})
    assert not at.exception and at.selectbox(key="pick-with").value == "done"
    assert [m.label for m in at.metric].count("Top-1") == 2 and len(at.dataframe) == 2
    assert "shared pictures" not in said(at)


def test_an_archived_run_is_shown_only_when_the_link_asks_for_it(open_page, second_run, store) -> None:
    set_record(store.get("done"), synthetic=True)  # so that the other would stand first, were it not archived
    store.annotate("other", archived=True)
    at = open_page("evaluate")
    assert at.selectbox(key="pick-run").value == "done" and len(at.selectbox(key="pick-run").options) == 1
    at = open_page("evaluate", run="other")
    assert not at.exception and at.selectbox(key="pick-run").value == "other"
    assert "The link names" not in said(at) and at.query_params["run"] == "other"
    at = open_page("evaluate", **{"with": "other"})
    assert not at.exception and at.selectbox(key="pick-run").value == "done"
    assert at.selectbox(key="pick-with").value == "other" and at.query_params["with"] == "other"
    assert [m.label for m in at.metric].count("Top-1") == 2


def test_a_chosen_cell_shows_its_pictures_and_a_tab_the_surest_mistakes(open_page, second_run) -> None:
    at = open_page("evaluate", run="other")
    assert "angry called disgust" in at.selectbox(key="cell").options[0]
    at.selectbox(key="cell").set_value("angry called disgust").run()
    (gallery,) = [e.proto.body for e in at.get("html") if "fer-gallery" in e.proto.body]
    assert gallery.count("<figure>") == 2 and "<b>disgust</b>" in gallery and "label: angry" in gallery
    assert gallery.count("data:image/png;base64,") == 2
    mistakes = open_page("evaluate", run="other", tab="Surest mistakes")
    assert "other is wrong about 10 of 70 pictures" in said(mistakes)


def test_the_probabilities_of_each_run_are_calibrated(open_page, second_run, store) -> None:
    path = second_run.path / "report.json"
    content = json.loads(path.read_text())
    content["reports"][second_run.fingerprint]["val"]["calibration"]["temperature"] = 4.0
    path.write_text(json.dumps(content))
    assert read_logits(store.get("done")).temperature == store.get("done").temperature() != 4
    at = open_page("evaluate", run="other", tab="Surest mistakes", **{"with": "done"})
    assert "other is wrong about 10 of 70 pictures, and at least 90 % sure of itself in 0 of them" in said(at)
    gallery = next(e.proto.body for e in at.get("html") if "fer-gallery" in e.proto.body)
    assert gallery.count("31.2 %<br>") == 10  # e / (e + 6); as trained it was 90.1 %
    assert "Probabilities after temperature scaling, at the run's 4.00." in said(at)


def test_the_chosen_cell_is_in_the_address(open_page, second_run) -> None:
    at = open_page("evaluate", run="other", cell="angry called disgust")
    assert not at.exception and at.selectbox(key="cell").value == "angry called disgust"
    (gallery,) = [e.proto.body for e in at.get("html") if "fer-gallery" in e.proto.body]
    assert gallery.count("<figure>") == 2 and "label: angry" in gallery
    at.selectbox(key="cell").set_value("angry called right").run()
    assert at.query_params["cell"] == "angry called right"
    at.selectbox(key="cell").set_value(None).run()
    assert not at.exception and "cell" not in at.query_params
    at = open_page("evaluate", run="other", cell="angry called surprise")
    assert not at.exception and at.selectbox(key="cell").value is None, "no picture is there"
    assert "cell" not in at.query_params


def test_the_chosen_cell_outlives_a_look_at_another_tab(open_page, second_run) -> None:
    at = open_page("evaluate", run="other")
    at.selectbox(key="cell").set_value("angry called disgust").run()
    at.session_state["clicked-cell"] = (0, 1)  # as after a click, which the matrix forgets while it is not shown
    at.session_state["tab"] = "Calibration"
    at.run()
    assert "Reliability" in at.get("plotly_chart")[0].proto.alt and at.query_params["cell"] == "angry called disgust"
    at.session_state["tab"] = "Confusion matrix"
    at.run()
    assert not at.exception and at.selectbox(key="cell").value == "angry called disgust"


def test_a_clicked_cell_stays_when_the_numbers_change_and_can_be_clicked_again(
    open_page, second_run, monkeypatch
) -> None:
    real, points = evaluate.chart, []

    def clicked(figure, *, key, **options):
        shown = real(figure, key=key, **options)
        return SimpleNamespace(selection=SimpleNamespace(points=list(points))) if key == "confusion" else shown

    monkeypatch.setattr(evaluate, "chart", clicked)
    at = open_page("evaluate", run="other")
    points.append({"x": 1, "y": 0})
    at.run()
    assert at.selectbox(key="cell").value == "angry called disgust"
    points.clear()  # another view is another chart to Streamlit, without a selection
    at.segmented_control(key="view").set_value("By row").run()
    assert not at.exception and at.selectbox(key="cell").value == "angry called disgust"
    assert at.query_params["cell"] == "angry called disgust"
    at.selectbox(key="cell").set_value(None).run()
    assert at.selectbox(key="cell").value is None and "cell" not in at.query_params
    points.append({"x": 1, "y": 0})
    at.run()
    assert at.selectbox(key="cell").value == "angry called disgust"


def test_without_the_data_set_mistakes_are_told_in_words(open_page, second_run, tmp_path) -> None:
    (tmp_path / "data" / "tiny.npz").unlink()
    at = open_page("evaluate", run="other", tab="Surest mistakes")
    assert not at.exception
    assert "not prepared on this machine" in said(at)
    assert list(at.dataframe[0].value.columns) == ["label", "said", "confidence", "probability of the label"]
    assert len(at.dataframe[0].value) == 10


def test_what_all_get_wrong_and_the_calibration_have_tabs(open_page, second_run) -> None:
    at = open_page("evaluate", run="other", tab="Wrong for all")
    assert not at.exception and "shared pictures" in said(at)
    assert at.multiselect[0].value == ["other", "done"]
    at = open_page("evaluate", run="other", tab="Calibration")
    assert not at.exception
    assert {"Calibration error", "After temperature scaling", "Temperature"} <= set(metrics(at))
    assert at.get("plotly_chart")[0].proto.alt.startswith("Reliability diagram of other")


def test_other_splits_are_calibrated_with_the_temperature_of_val(open_page, finished_run, store) -> None:
    press_evaluate(open_page("evaluate", split="train"))
    at = open_page("evaluate", split="train", tab="Calibration")
    kept = store.get("done").report("train")["calibration"]
    assert not at.exception and not kept["cross_fitted"]
    assert metrics(at)["Temperature"] == f"{finished_run.temperature():.2f}"
    assert metrics(at)["After temperature scaling"] == f"{100 * kept['ece_after']:.2f} %"
    helps = {m.label: m.help for m in at.metric}
    assert helps["After temperature scaling"] == "At the temperature that was fitted on val; none is fitted on train."
    assert "on train." in said(at) and "has no temperature yet" not in said(at)
    at = open_page("evaluate", tab="Calibration")
    assert metrics(at)["After temperature scaling"] == percent(finished_run.report("val")["calibration"]["ece_after"])
    content = json.loads((finished_run.path / "report.json").read_text())
    del content["reports"][finished_run.fingerprint]["val"]
    (finished_run.path / "report.json").write_text(json.dumps(content))
    at = open_page("evaluate", split="train", tab="Calibration")
    assert "done has no temperature yet" in said(at) and metrics(at)["Temperature"] == "1.00"


def test_a_few_pictures_give_no_temperature_and_no_judgement(open_page, finished_run) -> None:
    with np.load(finished_run.path / "logits-val.npz") as kept:
        few = {name: kept[name][:30] for name in kept.files}
    np.savez(finished_run.path / "logits-val.npz", **few)
    at = open_page("evaluate", tab="Calibration")
    assert not at.exception and metrics(at)["Temperature"] == "1.00"
    assert metrics(at)["Calibration error"] == metrics(at)["After temperature scaling"]
    assert "its val has fewer than 40 pictures" in said(at) and "too few pictures to say how honest" in said(at)
    assert "about honest" not in said(at)


def test_without_saved_logits_the_matrix_shows_and_the_rest_says_how_to_get_them(open_page, finished_run) -> None:
    (finished_run.path / "logits-val.npz").unlink()
    at = open_page("evaluate", tab="Calibration")
    assert not at.exception and metrics(at)["Pictures"] == "70"
    assert "has no saved predictions on val" in said(at)


def views_button(at) -> list:
    return [b for b in at.button if b.label == "Evaluate with ten views"]


def test_ten_views_are_evaluated_at_the_press_of_a_button_and_kept(open_page, finished_run, store) -> None:
    at = open_page("evaluate")
    assert "Top-1, ten views" not in metrics(at)
    (button,) = views_button(at)
    at = button.click().run()
    assert not at.exception and not views_button(at)
    kept = store.get("done").report("val+tta")
    assert metrics(at)["Top-1, ten views"] == f"{100 * kept['top1']:.2f} %"


def test_where_ten_views_had_no_temperature_of_their_own_it_says_so(open_page, finished_run, store) -> None:
    report = finished_run.report("val")
    assert "No temperature was fitted" not in said(open_page("evaluate"))
    views = {**report, "tta": True, "calibration": {**report["calibration"], "unfitted": ["done"]}}
    store.save_report("done", finished_run.fingerprint, "val+tta", views)
    at = open_page("evaluate")
    assert not at.exception and "No temperature was fitted with ten views for done, whose own data set" in said(at)


def test_ten_views_of_a_store_that_cannot_be_written_last_for_the_session(
    open_page, finished_run, store, monkeypatch
) -> None:
    monkeypatch.setenv("FER_READ_ONLY", "1")
    at = open_page("evaluate", split="val")
    at = views_button(at)[0].click().run()
    assert not at.exception and "Top-1, ten views" in metrics(at)
    assert store.get("done").report("val+tta") is None and "Top-1, ten views" not in metrics(open_page("evaluate"))


def test_where_ten_views_cannot_be_evaluated_it_says_why_and_how(open_page, finished_run, store, tmp_path) -> None:
    dataset.save(draw_blobs(seed=9))
    at = open_page("evaluate")
    assert not at.exception and not views_button(at), "the data have changed, and the report is of what they were"
    assert "these pictures of tiny are not prepared on this machine" in said(at)
    (tmp_path / "data" / "tiny.npz").unlink()
    at = open_page("evaluate")
    assert "`python -m fer evaluate done --split val --tta`" in said(at) and not views_button(at)
    (finished_run.path / "best.safetensors").unlink()
    at = open_page("evaluate")
    assert "The run has no weights to ask" in said(at) and not views_button(at)


def test_ten_views_of_an_earlier_epoch_do_not_stand_beside_a_later_one(open_page, finished_run, store) -> None:
    report = finished_run.report("val")
    store.save_report("done", finished_run.fingerprint, "val+tta", {**report, "epoch": 99, "top1": 0.5})
    at = open_page("evaluate")
    assert "Top-1, ten views" not in metrics(at) and views_button(at)
    store.save_report("done", finished_run.fingerprint, "val", {**report, "epoch": 98})
    at = open_page("evaluate")
    assert not views_button(at) and "This report is of epoch 98" in said(at)


def test_top1_with_test_time_views_stands_beside_it_where_it_is_known(open_page, finished_run, store) -> None:
    report = finished_run.report("val")
    store.save_report("done", finished_run.fingerprint, "val+tta", {**report, "top1": 0.5})
    assert metrics(open_page("evaluate"))["Top-1, ten views"] == "50.00 %"
    store.save_report("done", finished_run.fingerprint, "val+tta", {**report, "top1": 0.5, "epoch": 99})
    assert "Top-1, ten views" not in metrics(open_page("evaluate")), "of other weights"
