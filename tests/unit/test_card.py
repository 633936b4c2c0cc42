"""Model cards: every figure is the report's, and what it must not be used for is said."""

from __future__ import annotations

import dataclasses

import pytest

from fer.card import MUST_NOT, model_card
from fer.ensembles import create_ensemble
from fer.errors import RunError
from fer.evaluate import evaluate_run
from fer.runs import Notes
from fer.train import fit


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


def test_a_run_that_was_not_evaluated_has_no_card(make_run, store):
    make_run("new")
    with pytest.raises(RunError, match=r"'new' has no report on val.*fer evaluate new"):
        model_card(store.get("new"))


def test_a_name_means_nothing_but_itself(finished_run):
    run = dataclasses.replace(finished_run, notes=Notes(name="<b>[x](y)\n# z"))
    assert model_card(run).startswith("# Model card: \\<b\\>\\[x\\](y) \\# z\n")
