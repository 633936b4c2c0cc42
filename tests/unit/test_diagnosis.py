"""What the curves say: each rule on histories that it is about and on their neighbours that it is not about."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fer.config import flatten
from fer.diagnosis import Finding, diagnose, diagnose_together
from fer.files import PROJECT_ROOT
from fer.pretrained import check_weights
from fer.runs import Run, RunStore
from tests.made_runs import write_run

STUDY_RUNS = ("baseline", "step-decay", "exponential-decay", "grouped-conv")


def rows(**columns: Any) -> list[dict[str, float]]:
    """Epochs from columns; a single number stands for all epochs."""
    n = max(len(v) for v in columns.values() if isinstance(v, list))
    return [{k: v[i] if isinstance(v, list) else v for k, v in columns.items()} for i in range(n)]


def healthy(n: int = 10) -> list[dict[str, float]]:
    """Everything gets better, more and more slowly, until nothing is left to say."""
    x = [math.exp(-e) for e in range(n)]
    return rows(
        train_loss=[0.25 + 1.4 * v for v in x],
        val_loss=[0.3 + 1.3 * v for v in x],
        train_top1=[0.93 - 0.6 * v for v in x],
        val_top1=[0.90 - 0.5 * v for v in x],
    )


UNDERFITTED = rows(train_loss=[1.6, 1.5, 1.49, 1.49], val_loss=1.5, train_top1=[0.35, 0.4, 0.41, 0.41], val_top1=0.4)
DRIFTED = rows(val_top1=[0.5, 0.55, 0.5], train_top1=[0.5, 0.6, 0.9])


def found(run: Run, kind: str) -> Finding | None:
    return next((f for f in diagnose(run) if f.kind == kind), None)


def report(recalls: dict[str, float], predicted: list[int] | None = None) -> dict[str, Any]:
    n = 100
    return {
        "top1": 0.5,
        "per_class": {name: {"recall": r, "precision": 0.5, "f1": 0.5, "n": n} for name, r in recalls.items()},
        "confusion_matrix": [predicted or [n // len(recalls)] * len(recalls)] * len(recalls),
    }


def test_a_healthy_run_has_nothing_to_say(store: RunStore) -> None:
    assert diagnose(write_run(store, "a", healthy())) == ()


def test_nothing_is_said_before_the_first_epoch(store: RunStore) -> None:
    assert diagnose(write_run(store, "a", [], state="queued")) == ()


def test_overfitting_names_the_epoch_where_val_loss_turned(store: RunStore) -> None:
    run = write_run(
        store, "a", rows(train_loss=[1.5, 1.2, 0.9, 0.5, 0.13], val_loss=[1.4, 1.22, 1.5, 2.4, 3.40], val_top1=0.55)
    )
    finding = found(run, "overfitting")
    assert finding and (finding.level, finding.epoch) == ("problem", 2)
    assert finding.evidence == "after epoch 2 val loss rose from 1.22 to 3.40 while train loss fell to 0.13"
    assert [r.recipe for r in finding.remedies] == [
        "augment", "dropout", "weight-decay", "label-smoothing", "early-stopping"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("val", "train"),
    [
        ([1.4, 1.22, 1.23, 1.24, 1.25], [1.5, 1.2, 0.9, 0.5, 0.3]),  # hardly rose
        ([1.4, 1.3, 1.25, 1.22, 1.5], [1.5, 1.2, 0.9, 0.5, 0.3]),  # one epoch is no turn
        ([1.4, 1.22, 1.5, 2.4, 3.4], [1.5, 1.2, 1.3, 1.4, 1.5]),  # train got worse too
    ],
)
def test_what_is_not_overfitting(store: RunStore, val: list[float], train: list[float]) -> None:
    assert found(write_run(store, "a", rows(train_loss=train, val_loss=val, val_top1=0.55)), "overfitting") is None


def test_remedies_that_a_run_has_already_are_not_offered(store: RunStore) -> None:
    curve = rows(train_loss=[1.5, 1.2, 0.9, 0.5, 0.13], val_loss=[1.4, 1.22, 1.5, 2.4, 3.40])
    run = write_run(store, "a", curve, model__dropout=0.5, train__patience=5, augment__flip=True)
    finding = found(run, "overfitting")
    assert finding
    by_recipe = {r.recipe: r for r in finding.remedies}
    assert set(by_recipe) == {"augment", "weight-decay", "label-smoothing"}
    assert "augment.flip" not in by_recipe["augment"].changes
    assert by_recipe["weight-decay"].assignments == ["optim.weight_decay=0.0005"]
    assert by_recipe["weight-decay"].config(run).optim.weight_decay == 0.0005
    assert by_recipe["weight-decay"].config(run).model.dropout == 0.5


OVERFITTED = rows(
    train_loss=[1.5, 1.2, 0.9, 0.5, 0.13], val_loss=[1.4, 1.22, 1.5, 2.4, 3.40], train_top1=0.9, val_top1=0.5
)


@pytest.mark.parametrize(
    ("settings", "weaker"),
    [
        ({"recipe": "transfer-resnet18"}, {"weight-decay", "label-smoothing"}),
        ({"recipe": "fast"}, {"weight-decay"}),
        ({"recipe": "strong"}, {"weight-decay", "label-smoothing"}),
        ({"model__dropout": 0.7}, {"dropout"}),
        ({"model__width": 0.25, "augment__mixup": 0.4}, {"narrow", "mixup"}),
        ({"train__patience": 3, "train__label_smoothing": 0.2}, {"early-stopping", "label-smoothing"}),
    ],
)
def test_a_remedy_never_weakens_what_the_run_has(store: RunStore, settings: dict, weaker: set[str]) -> None:
    run = write_run(store, "a", OVERFITTED, **settings)
    assert run.config
    offered = [r for f in diagnose(run) for r in f.remedies]
    assert offered and not weaker & {r.recipe for r in offered}
    now = flatten(run.config)
    for path, value in (change for r in offered for change in r.changes.items()):
        smaller = path in ("model.width", "model.hidden_layers", "train.patience")
        assert now[path] is None or (value < now[path] if smaller else value > now[path]), path


def test_what_a_preset_has_weaker_is_left_out_of_it(store: RunStore) -> None:
    finding = found(write_run(store, "a", OVERFITTED, recipe="strong"), "overfitting")
    assert finding
    assert {r.recipe: r.assignments for r in finding.remedies}["augment"] == ["augment.erase=0.3"]  # its shift stays 4


@pytest.mark.parametrize(("gap", "level"), [(0.05, None), (0.12, "note"), (0.4, "problem")])
def test_drift(store: RunStore, gap: float, level: str | None) -> None:
    run = write_run(store, "a", rows(val_top1=[0.5, 0.55, 0.5], train_top1=[0.5, 0.6, 0.5 + gap]))
    finding = found(run, "drift")
    assert (finding.level if finding else None) == level
    if finding:
        assert f"{100 * gap:.1f} points apart; in the best epoch, 2, it was 5.0" in finding.evidence


def test_divergence(store: RunStore) -> None:
    run = write_run(store, "a", rows(train_loss=[1.8, 1.2, 1.3, 2.5], val_loss=1.5))
    finding = found(run, "diverged")
    assert finding and finding.evidence == "train loss rose from 1.20 in epoch 2 to 2.50 in epoch 4"
    assert [r.assignments for r in finding.remedies] == [
        ["optim.lr=0.0001"], ["schedule.warmup_epochs=0.5"], ["train.clip_norm=1"]
    ]  # fmt: skip
    assert found(run, "rate-too-high") is None


def test_small_losses_that_double_are_no_divergence(store: RunStore) -> None:
    assert found(write_run(store, "a", rows(train_loss=[0.5, 0.02, 0.05], val_loss=1.0)), "diverged") is None


def test_a_loss_that_is_no_number_fails_the_run_and_is_explained(store: RunStore) -> None:
    said = "The training loss is no longer a number in epoch 1"
    assert "no longer a number" in (PROJECT_ROOT / "fer" / "train.py").read_text()  # the words that the rule looks for
    write_run(store, "a", [], state="failed", optim__lr=1.0)
    store.write_status("a", {"state": "failed", "error": said})
    finding = found(store.get("a"), "diverged")
    assert finding and "after 0 whole epochs, at a learning rate of 1" in finding.evidence
    assert finding.remedies[0].changes == {"optim.lr": 0.1}


@pytest.mark.parametrize(("lr", "cure"), [(0.01, 0.001), (1e-5, 1e-4)])
def test_not_learning(store: RunStore, lr: float, cure: float) -> None:
    curve = rows(train_loss=[1.9, 1.88, 1.87], train_top1=[0.24, 0.25, 0.25], val_top1=0.25, val_loss=1.85)
    finding = found(write_run(store, "a", curve, optim__lr=lr), "not-learning")
    assert finding and "always naming the commonest class gets 25.0 %" in finding.evidence
    assert finding.remedies[0].changes == {"optim.lr": cure}


def test_a_rate_that_throws_the_loss_about(store: RunStore) -> None:
    jumpy = [1.6, 1.3, 1.1, 1.2, 1.0, 1.15, 0.9, 0.8]
    finding = found(write_run(store, "a", rows(train_loss=jumpy, val_loss=1.3)), "rate-too-high")
    assert finding and finding.epoch == 4
    assert "rose in 2 of 6 epochs after the second (first in epoch 4, from 1.10 to 1.20)" in finding.evidence
    smooth = write_run(store, "b", rows(train_loss=sorted(jumpy, reverse=True), val_loss=1.3))
    assert found(smooth, "rate-too-high") is None


def test_a_rate_too_high_at_first(store: RunStore) -> None:
    finding = found(write_run(store, "a", rows(train_loss=[4.0, 1.5, 1.3], val_loss=1.3)), "rate-too-high")
    assert finding and "4.00 over epoch 1, where guessing gives 1.95" in finding.evidence


def test_still_getting_better_at_the_end(store: RunStore) -> None:
    curve = rows(
        train_loss=[1.6, 1.4, 1.2, 1.0], val_loss=[1.5, 1.3, 1.2, 1.1],
        train_top1=[0.3, 0.4, 0.5, 0.6], val_top1=[0.3, 0.4, 0.5, 0.58],
    )  # fmt: skip
    finding = found(write_run(store, "a", curve), "unfinished")
    assert finding and finding.remedies[0].changes == {"train.epochs": 8}
    assert found(write_run(store, "b", curve, state="queued"), "unfinished") is None
    assert found(write_run(store, "c", healthy()), "unfinished") is None


def test_a_run_that_was_broken_off_is_to_be_resumed_not_to_train_longer(store: RunStore) -> None:
    curve = rows(
        train_loss=[1.6, 1.4, 1.2, 1.1, 1.0], val_loss=[1.5, 1.4, 1.3, 1.2, 1.1],
        train_top1=[0.3, 0.4, 0.5, 0.55, 0.6], val_top1=[0.3, 0.4, 0.5, 0.55, 0.58],
    )  # fmt: skip
    finding = found(write_run(store, "a", curve, state="stopped", train__epochs=25), "unfinished")
    assert finding and finding.evidence.endswith("; stopped after 5 of 25 epochs: resume it")
    assert finding.remedies == ()
    patient = write_run(store, "b", curve, state="finished", train__epochs=25, train__patience=2)
    assert found(patient, "unfinished") is None, "early stopping is an end of its own"
    (store.root / "shipped.json").write_text('["a"]')
    finding = found(store.get("a"), "unfinished")
    assert finding and finding.evidence.endswith("; stopped after 5 of 25 epochs")


def test_underfitting_and_its_remedies(store: RunStore) -> None:
    finding = found(write_run(store, "a", UNDERFITTED, model__dropout=0.5), "underfitting")
    assert finding and "train top-1 ended at 41.0 %, 1.0 points from val" in finding.evidence
    assert [r.changes for r in finding.remedies] == [
        {"model.width": 2.0}, {"model.batch_norm": True}, {"model.dropout": 0.0}
    ]  # fmt: skip


def test_what_the_network_ignores_is_no_remedy(store: RunStore) -> None:
    drifted = found(write_run(store, "a", DRIFTED, recipe="transfer-resnet18"), "drift")
    assert drifted and [r.recipe for r in drifted.remedies] == ["mixup"]
    backbone = found(write_run(store, "b", UNDERFITTED, recipe="transfer-resnet18"), "underfitting")
    assert backbone and [r.changes for r in backbone.remedies] == [{"optim.weight_decay": 0.0}]
    family = found(write_run(store, "c", UNDERFITTED, recipe="strong"), "underfitting")
    assert family and family.remedies[0].changes == {"model.width": 2.0}


def test_a_run_that_began_from_another_is_offered_what_keeps_the_network(store: RunStore) -> None:
    write_run(store, "first", healthy())
    (store.root / "first" / "best.safetensors").touch()
    began = {"model__dropout": 0.5, "model__from_run": "first"}
    drifted = write_run(store, "a", DRIFTED, **began)
    underfitted = write_run(store, "b", UNDERFITTED, **began)
    offered = {run.id: [r for f in diagnose(run) for r in f.remedies] for run in (drifted, underfitted)}
    assert [r.recipe for r in offered["a"]] == ["mixup"]
    assert [r.changes for r in offered["b"]] == [{"model.dropout": 0.0}]
    for run in (drifted, underfitted):
        for remedy in offered[run.id]:
            check_weights(remedy.config(run).model, store)  # what a launch asks


def test_early_stop_too_early(store: RunStore) -> None:
    n = {"train_loss": [1.5, 1.4, 1.3, 1.2], "val_top1": [0.5, 0.49, 0.48, 0.47]}
    better = write_run(store, "a", rows(**n, val_loss=[1.5, 1.4, 1.3, 1.2]), train__patience=3, train__epochs=25)
    finding = found(better, "early-stop")
    assert finding and finding.evidence == (
        "it ended after epoch 4 of 25, 3 epochs without a better val top-1, though val loss was at its lowest, 1.20, in epoch 4"
    )
    assert [r.changes for r in finding.remedies] == [{"train.patience": 10}, {"train.patience": None}]
    worse = rows(**n, val_loss=[1.2, 1.3, 1.4, 1.5])
    assert found(write_run(store, "b", worse, train__patience=3, train__epochs=25), "early-stop") is None
    assert found(write_run(store, "c", worse, train__patience=3), "early-stop") is None  # all epochs were trained
    step = write_run(store, "d", worse, recipe="step-decay", train__patience=3, train__epochs=25)
    finding = found(step, "early-stop")
    assert finding and "before the step schedule had lowered the rate of 0.001" in finding.evidence


def test_plateau(store: RunStore) -> None:
    curve = rows(train_loss=[1.5 - 0.05 * e for e in range(10)], val_loss=1.3, val_top1=[0.4, 0.5, 0.55, *[0.54] * 7])
    finding = found(write_run(store, "a", curve), "plateau")
    assert finding and finding.evidence == "val top-1 has not passed the 55.0 % of epoch 3 in 7 epochs since"
    assert [r.recipe for r in finding.remedies] == ["plateau", "step-decay", "cosine"]
    decayed = found(write_run(store, "b", curve, recipe="cosine"), "plateau")
    assert decayed and [r.recipe for r in decayed.remedies] == ["augment", "batch-norm", "ema"]


def test_class_collapse_from_the_report(store: RunStore) -> None:
    lost = write_run(store, "a", healthy(), report=report({"happy": 0.9, "disgust": 0.0}))
    finding = found(lost, "class-collapse")
    assert finding and finding.title == "disgust is hardly ever recognised"
    assert finding.evidence == "of 100 disgust pictures 0.0 % are recognised"
    assert [r.recipe for r in finding.remedies] == ["balanced-sampling", "weighted-loss"]
    one = write_run(store, "b", healthy(), report=report({"happy": 0.9, "sad": 0.3}, predicted=[80, 20]))
    finding = found(one, "class-collapse")
    assert finding and finding.evidence == "80.0 % of all predictions are happy"
    note = found(write_run(store, "c", healthy(), report=report({"happy": 0.9, "sad": 0.2, "fear": 0.8})), "neglected")
    assert note and "of 100 sad pictures 20.0 % are recognised, where the mean over classes is 63.3 %" in note.evidence
    assert found(write_run(store, "d", healthy(), report=report({"happy": 0.9, "sad": 0.8})), "neglected") is None


@pytest.mark.parametrize("damaged", [{"per_class": 3}, {"per_class": {"a": {}}}, {"per_class": {"a": None}}])
def test_a_damaged_report_says_nothing(store: RunStore, damaged: dict[str, Any]) -> None:
    assert diagnose(write_run(store, "a", healthy(), report={**damaged, "confusion_matrix": [[1], 2]})) == ()


def test_a_loss_that_no_mean_cross_entropy_can_be(store: RunStore) -> None:
    """The study's own: batch means summed and divided by the number of pictures, 64 times too small."""
    run = write_run(store, "a", rows(val_loss=[1.5 / 64, 1.2 / 64, 1.3 / 64], val_top1=0.56))
    finding = found(run, "odd-loss")
    assert finding and "with 44.0 % wrong a mean cross entropy is 0.305 or more" in finding.evidence


def test_no_true_cross_entropy_is_called_odd() -> None:
    """The bound holds for any logits: it is about mathematics, not about this program."""
    from fer.metrics import cross_entropy, top1

    rng = np.random.default_rng(0)
    for scale in (0.01, 0.5, 2.0, 30.0):
        logits, labels = rng.normal(0, scale, (500, 7)), rng.integers(0, 7, 500)
        wrong = 1 - top1(labels, logits.argmax(axis=1))
        assert cross_entropy(logits, labels) >= wrong * math.log(2)


def test_the_shipped_runs_overfit_as_the_study_says() -> None:
    store = RunStore(PROJECT_ROOT / "checkpoints")
    for run_id in STUDY_RUNS:
        kinds = [f.kind for f in diagnose(store.get(run_id))]
        assert kinds[:2] == ["overfitting", "drift"]
        assert not {"diverged", "rate-too-high", "underfitting", "odd-loss", "plateau"} & set(kinds)


# --- side by side ----------------------------------------------------------------------------------------------------


def kinds(*runs: Run) -> list[tuple[str, str]]:
    return [(t.kind, t.level) for t in diagnose_together(runs)]


def test_copied_metrics_are_flagged(store: RunStore) -> None:
    curve = healthy(8)
    a = write_run(store, "step", curve, recipe="step-decay")
    b = write_run(store, "expo", curve, recipe="exponential-decay")
    (said,) = diagnose_together([a, b])
    assert (said.kind, said.level, said.runs) == ("identical", "problem", ("step", "expo"))
    assert said.sentence.endswith("though their settings differ. One of them did not run what its name says.")


def test_same_rates_make_the_same_training(store: RunStore) -> None:
    assert kinds(write_run(store, "a", healthy(3)), write_run(store, "b", healthy(3), recipe="step-decay")) == [
        ("same-training", "note")
    ]


@pytest.mark.parametrize(
    ("patience", "epochs", "kind"),
    [
        (20, 10, "same-training"),  # it never came to that
        (3, 10, "same-training"),  # it came to that after the last epoch of both
        (3, 25, "same-training"),  # and ended one of them
        (2, 10, "identical"),  # it should have ended one of them before
    ],
)
def test_early_stopping_that_had_no_effect_makes_the_same_training(
    store: RunStore, patience: int, epochs: int, kind: str
) -> None:
    curve = healthy(10)
    for row in curve[7:]:
        row["val_top1"] = curve[6]["val_top1"] - 0.01
    a = write_run(store, "a", curve)
    b = write_run(store, "b", curve, train__patience=patience, train__epochs=epochs)
    assert [k for k, _level in kinds(a, b)] == [kind]


def test_settings_that_have_no_effect_make_the_same_training(store: RunStore) -> None:
    a, b = write_run(store, "a", healthy(3)), write_run(store, "b", healthy(3), optim__momentum=0.5)
    assert kinds(a, b) == [("same-training", "note")]
    c = write_run(store, "c", healthy(3), optim__lr=0.5)
    assert kinds(a, c) == [("identical", "problem")]


def test_one_config_and_seed_twice(store: RunStore) -> None:
    a, b = write_run(store, "a", healthy()), write_run(store, "b", healthy(), runtime__threads=2)
    (said,) = diagnose_together([a, b])
    assert (said.kind, said.level) == ("repeat", "note")
    assert "a and b have the same settings and seed with identical figures" in said.sentence
    other = rows(**{k: [r[k] + 0.001 for r in healthy()] for k in healthy()[0]})
    assert "and their figures differ" in diagnose_together([a, write_run(store, "c", other)])[0].sentence
    assert kinds(a, write_run(store, "d", other, seed=1)) == []


def test_one_config_under_two_names(store: RunStore) -> None:
    a = write_run(store, "a", healthy())
    b = write_run(
        store, "b", rows(val_loss=[1.5, 1.2]), recipe="step-decay", schedule__name="constant", train__epochs=10
    )
    c = write_run(store, "c", rows(val_loss=[1.5, 1.2]), schedule__step_size=5, train__epochs=10)
    said = [t for t in diagnose_together([a, b, c]) if t.kind == "repeat"]
    assert said and said[0].level == "problem"
    assert "Yet they are called baseline and step-decay" in said[0].sentence


def test_other_data_and_other_losses_are_named(store: RunStore) -> None:
    a, b = write_run(store, "a", healthy()), write_run(store, "b", healthy(9), fingerprint="e" * 32)
    odd = write_run(store, "odd", rows(val_loss=[0.02, 0.01], val_top1=0.5), recipe="dropout")
    said = diagnose_together([a, b])[0]
    assert (
        said.kind == "other-data" and "a on fer2013; b on fer2013. One name stands for data that have" in said.sentence
    )
    assert kinds(a, odd) == [("other-loss", "problem"), ("train-figures", "note")]


def test_different_runs_of_the_study_can_be_compared() -> None:
    store = RunStore(PROJECT_ROOT / "checkpoints")
    assert diagnose_together([store.get(r) for r in STUDY_RUNS]) == ()
