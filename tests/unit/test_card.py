"""Model cards: every figure is the report's, and what it must not be used for is said."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fer.card import DRAWN, LABELS, MUST_NOT, UNKNOWN_LABELS, model_card
from fer.config import with_settings
from fer.ensembles import create_ensemble
from fer.errors import RunError
from fer.evaluate import evaluate_run
from fer.runs import Notes
from fer.train import fit
from tests.made_runs import write_run


def test_a_card_carries_the_reports_figures_and_what_it_is_not_for(finished_run, store):
    evaluate_run(store, "done", tta=True, device="cpu")
    run = store.get("done")
    report, text = run.report("val"), model_card(run)
    assert f"| One look at each picture | {report['top1']:.2%} | {report['duplicates']['top1_without']:.2%} |" in text
    assert f"| Mean of ten views | {run.report('val+tta')['top1']:.2%} |" in text
    assert f"{report['calibration']['ece_before']:.3f} and {report['calibration']['ece_after']:.3f}" in text
    for name, x in report["per_class"].items():
        assert f"| {name} | {x['precision']:.1%} | {x['recall']:.1%} | {x['f1']:.3f} | {x['n']} |" in text
    assert "423,751 parameters" in text
    assert "0 of the 70 pictures of val stand in train too" in text
    assert run.fingerprint in text
    assert text.rstrip().endswith(MUST_NOT)


def test_the_card_of_an_ensemble_names_its_members(finished_run, store, make_run):
    make_run("other", seed=1, train__epochs=1)
    fit(store, "other")
    text = model_card(create_ensemble(store, ["done", "other"], "both", device="cpu"))
    assert "An ensemble of `done`, `other`" in text
    assert f"{2 * 423_751:,} parameters" in text
    assert "70 pictures.\n" in text and "weights of epoch" not in text


def test_a_card_says_from_which_run_it_began(finished_run, store, make_run):
    assert "began from" not in model_card(finished_run)
    make_run("more", model__from_run="done", train__epochs=1)
    text = model_card(fit(store, "more"))
    assert "It began from the best weights of `done`, whose training is not in these minutes." in text


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model.weights": "/x/mob_*.pth"}, r"whoever trained the weights in `mob\_\*.pth` (sha256 `0123456789ab`)"),
        ({"model.pretrained": True}, r"the photos of ImageNet: it began from torchvision's `mob\_\*.pth`"),
    ],
)
def test_a_card_says_what_a_backbone_knew_before(finished_run, settings, says):
    first = {"file": "mob_*.pth", "sha256": "0123456789abcdef" * 4}
    config = with_settings(finished_run.config, {"model.name": "resnet18", **settings})
    begun = dataclasses.replace(finished_run, config=config, status={**finished_run.status, "first_weights": first})
    learned = model_card(begun).partition("## What it learned from")[2].partition("\n## ")[0]
    assert says in learned
    assert "Before that" not in model_card(finished_run)
    of_a_run = dataclasses.replace(begun, status={**begun.status, "first_weights": {"run": "x", **first}})
    assert "Before that" not in model_card(of_a_run)


def test_labels_are_those_of_the_data_that_it_learned_from(finished_run):
    assert UNKNOWN_LABELS in model_card(finished_run) and "FER2013" not in model_card(finished_run)
    for facts, said in (({"fer2013": True}, LABELS), ({"fer2013": True, "synthetic": True}, DRAWN)):
        record = {**finished_run.record, "data": {**finished_run.record["data"], **facts}}
        assert said in model_card(dataclasses.replace(finished_run, record=record))


def test_a_run_of_before_goes_by_the_name_of_its_data(store):
    report = {"classes": [], "confusion_matrix": [], "per_class": {}, "n": 1, "loss": 1.0, "top1": 0.5, "macro_f1": 0.5}
    for name, said in (("fer2013", LABELS), ("mydata", UNKNOWN_LABELS)):
        assert said in model_card(write_run(store, name, [{}], report=report, data__name=name))


@pytest.mark.parametrize(
    ("changes", "is_it"),
    [
        ({}, False),
        ({"name": "fer2013-small"}, True),
        ({"meta": {"origin": "FER2013.zip"}}, True),
        ({"meta": {"origin": "icml_face_data.csv"}}, True),
        ({"meta": {"origin": "mydata"}}, False),
        ({"name": "kaggle", "labels": np.zeros(35_887)}, True),
    ],
)
def test_what_counts_as_fer2013(tiny, changes, is_it):
    assert dataclasses.replace(tiny, **changes).fer2013 is is_it


def change_report(run, change) -> None:
    path = run.path / "report.json"
    content = json.loads(path.read_text())
    change(content["reports"][run.fingerprint]["val"])
    path.write_text(json.dumps(content))


def test_a_class_that_was_never_said_has_no_precision(finished_run):
    change_report(finished_run, lambda report: [row.__setitem__(0, 0) for row in report["confusion_matrix"]])
    assert "| angry | – | " in model_card(finished_run)


def test_what_is_not_recorded_is_said_to_be_so(finished_run, store):
    (finished_run.path / "model.json").unlink()
    change_report(finished_run, lambda report: report.update(duplicates=[1], calibration={"ece_before": "low"}))
    path = finished_run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "versions": 5}))
    text = model_card(store.get("done"))
    assert "grey face crops of 48x48 pixels: size not recorded." in text
    assert "| not known | " in text and "not known and not known" in text and "torch ?" in text


@pytest.mark.parametrize("change", [{"per_class": {"happy": {}}}, {"top1": None}, {"split_note": 5}])
def test_a_damaged_report_is_a_sentence(finished_run, change):
    change_report(finished_run, lambda report: report.update(change))
    with pytest.raises(RunError, match=r"'done' has a damaged report on val.*fer evaluate done"):
        model_card(finished_run)


def test_only_what_was_shipped_has_cards_of_its_members(store):
    report = {"classes": [], "confusion_matrix": [], "per_class": {}, "n": 1, "loss": 1.0, "top1": 0.5, "macro_f1": 0.5}
    write_run(store, "both", [{"epoch_seconds": 60.0}], members=["one", "two"], report=report)
    text = model_card(store.get("both"))
    assert "trainings took 1 minutes together." in text and "probabilities. Size not recorded." in text
    assert "together; each has a card of its own." in model_card(dataclasses.replace(store.get("both"), shipped=True))


def test_a_run_that_was_not_evaluated_has_no_card(make_run, store):
    make_run("new")
    with pytest.raises(RunError, match=r"'new' has no report on val.*fer evaluate new"):
        model_card(store.get("new"))


def test_a_name_means_nothing_but_itself(finished_run):
    run = dataclasses.replace(finished_run, notes=Notes(name="<b>[x](y)\n# z"))
    assert model_card(run).startswith("# Model card: \\<b\\>\\[x\\](y) \\# z\n")
