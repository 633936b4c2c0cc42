"""What is called real, what is refused, and in which words; noise over a hundred stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fer.errors import RunError
from fer.experiments import Group, groups
from fer.runs import RunStore, hold
from fer.verdicts import Verdict, _p, correction, read_logits, verdicts
from tests.made_runs import FINGERPRINT, logits_of, write_run

RECIPES = ("baseline", "step-decay", "dropout")


def with_seeds(store: RunStore, tops: dict[str, list[float]], **settings: object) -> dict[str, Group]:
    """One group a recipe, one finished run a seed."""
    runs = [
        write_run(store, f"{recipe}-s{seed}", [{"val_top1": top}], recipe=recipe, seed=seed, **settings)
        for recipe, values in tops.items()
        for seed, top in enumerate(values)
    ]
    return {g.recipe: g for g in groups(runs)}


def networks(store: RunStore, right: dict[str, np.ndarray], **more: object) -> dict[str, Group]:
    """One network a recipe that is right where the array says so."""
    made = []
    for recipe, ok in right.items():
        labels = np.arange(len(ok)) % 7
        logits = logits_of(ok, labels)
        rows = [{"val_top1": float(ok.mean())}]
        made.append(write_run(store, recipe, rows, recipe=recipe, logits=logits, labels=labels, **more))
    return {g.recipe: g for g in groups(made)}


def test_recipes_over_three_seeds(store: RunStore) -> None:
    of = with_seeds(store, {"baseline": [0.54, 0.55, 0.545], "step-decay": [0.556, 0.565, 0.562]})
    (found,) = verdicts(of["baseline"], of.values())
    assert (found.kind, found.n, found.is_real) == ("recipes", 3, True)
    assert found.difference == pytest.approx(0.016)
    assert found.sentence == (
        "step-decay beats baseline by 1.60 points; 95 % interval 1.35 to 1.85 over 3 seeds: more than noise (p = 0.001)."
    )


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.0496, "p = 0.0496"),
        (0.0504, "p = 0.050"),
        (0.05, "p = 0.050"),
        (0.049999, "p = 0.04999"),
        (0.0321, "p = 0.032"),
        (0.0009, "p < 0.001"),
        (0.41, "p = 0.41"),
    ],
)
def test_a_p_value_is_never_rounded_over_the_level(p: float, said: str) -> None:
    assert _p(Verdict("recipes", "a", "b", p_corrected=p)).startswith(said)


def test_verdicts_on_test_say_so(store: RunStore) -> None:
    of = with_seeds(store, {"baseline": [0.5, 0.5, 0.5], "step-decay": [0.5, 0.5, 0.5], "dropout": [0.5, 0.5, 0.5]})
    tops = {"baseline": (0.54, 0.55, 0.545), "step-decay": (0.556, 0.565, 0.562), "dropout": (0.55, 0.54, 0.546)}
    for recipe, values in tops.items():
        for seed, top1 in enumerate(values):
            store.save_report(f"{recipe}-s{seed}", FINGERPRINT, "test", {"top1": top1, "epoch": 1})
    real, noise = verdicts(of["baseline"], of.values(), split="test")
    assert real.sentence.startswith("step-decay beats baseline by 1.60 points on test; 95 % interval")
    assert "points above baseline on test; 95 % interval" in noise.sentence


def test_verdicts_on_test_about_networks_say_so(store: RunStore) -> None:
    labels = np.zeros(500, dtype=np.int64)
    for recipe, right in (("baseline", 250), ("step-decay", 320), ("dropout", 251)):
        for seed in range(3):
            run = write_run(store, f"{recipe}-s{seed}", [{"val_top1": 0.5}], recipe=recipe, seed=seed)
            if not seed:
                logits, hashes = logits_of(np.arange(500) < right, labels), np.arange(500, dtype=np.uint64)
                np.savez(run.path / "logits-test.npz", logits=logits, labels=labels, hashes=hashes)
    base, *others = groups([store.get(i) for i in store.ids()])
    by_name = {v.name: v.sentence for v in verdicts(base, others, split="test")}
    assert by_name["step-decay"].startswith("On 500 shared test pictures the network step-decay (run step-decay-s0)")
    assert by_name["step-decay"].endswith("takes 3 seeds of each, evaluated on test.")
    few = (
        "With fewer than 3 finished seeds of each, evaluated on test, the test on 500 shared test pictures cannot tell"
    )
    assert by_name["dropout"].startswith(few)


@pytest.mark.parametrize("right", [320, 251])
def test_seeds_of_one_start_are_not_asked_for_more_seeds(store: RunStore, right: int) -> None:
    labels = np.zeros(500, dtype=np.int64)
    for seed in range(3):
        for name, n, more in (("base", 250, {}), ("on", right, {"model__from_run": "first"})):
            ok = np.arange(500) < n + seed
            saved = {"logits": logits_of(ok, labels), "labels": labels}
            write_run(store, f"{name}-{seed}", [{"val_top1": float(ok.mean())}], seed=seed, **saved, **more)
    on, base = sorted(groups([store.get(i) for i in store.ids()]), key=lambda g: g.key, reverse=True)
    (found,) = verdicts(base, [on])
    assert (found.kind, found.is_real, found.one_start) == ("networks", right == 320, (on.label,))
    assert "fewer than" not in found.sentence and "takes 3 seeds" not in found.sentence
    assert found.sentence.endswith(
        f"The seeds of {on.label} begin from the same weights, so this is about these networks."
    )


def test_a_recipe_that_is_worse_is_said_to_be(store: RunStore) -> None:
    of = with_seeds(store, {"baseline": [0.556, 0.565, 0.562], "step-decay": [0.54, 0.55, 0.545]})
    (found,) = verdicts(of["baseline"], of.values())
    assert found.is_real and found.difference == pytest.approx(-0.016)
    assert "falls behind baseline by 1.60 points; 95 % interval 1.35 to 1.85" in found.sentence


def test_noise_over_seeds(store: RunStore) -> None:
    of = with_seeds(store, {"baseline": [0.54, 0.55, 0.545], "step-decay": [0.55, 0.54, 0.546]})
    (found,) = verdicts(of["baseline"], of.values())
    assert not found.is_real
    assert "no more than noise (p = 0.96)" in found.sentence


def test_other_seeds_are_compared_unpaired(store: RunStore) -> None:
    runs = [write_run(store, f"a{s}", [{"val_top1": 0.5 + s / 1000}], seed=s) for s in (0, 1, 2)]
    runs += [write_run(store, f"b{s}", [{"val_top1": 0.6 + s / 1000}], seed=s, recipe="dropout") for s in (2, 3, 4, 5)]
    base, other = groups(runs)
    (found,) = verdicts(base, [other])
    assert (found.kind, found.paired, found.n, found.is_real) == ("recipes", False, 3, True)
    assert "over 4 and 3 seeds" in found.sentence


def test_a_seed_that_was_trained_twice_counts_once(store: RunStore) -> None:
    runs = [write_run(store, f"a{i}", [{"val_top1": 0.5}], seed=0) for i in range(5)]
    runs += [write_run(store, f"b{i}", [{"val_top1": 0.6}], seed=0, recipe="dropout") for i in range(5)]
    base, other = groups(runs)
    (found,) = verdicts(base, [other])
    assert found.kind == "refused"


def test_runs_that_were_not_finished_do_not_count_as_seeds(store: RunStore) -> None:
    of = with_seeds(store, {"baseline": [0.54, 0.55, 0.545], "step-decay": [0.6, 0.6, 0.6]}, state="stopped")
    (found,) = verdicts(of["baseline"], of.values())
    assert found.kind == "refused"


def test_networks_on_the_same_pictures(store: RunStore) -> None:
    rng = np.random.default_rng(0)
    first = rng.random(2000) < 0.5
    better = first | (rng.random(2000) < 0.1)
    of = networks(store, {"baseline": first, "step-decay": better, "dropout": first ^ (rng.random(2000) < 0.02)})
    real, noise = verdicts(of["baseline"], of.values())
    assert (real.kind, real.n, real.is_real, real.comparisons) == ("networks", 2000, True, 2)
    assert "more than chance for these two networks" in real.sentence
    assert "takes 3 seeds of each" in real.sentence
    assert not noise.is_real
    assert noise.sentence.startswith("With one seed each, the test on 2,000 shared pictures cannot tell dropout and")
    assert noise.sentence.endswith(f"(p = {noise.p_corrected:.2f})."), "the corrected p"
    assert correction([real, noise]).startswith("The p values are corrected for 2 comparisons by Holm's method")
    assert correction([]) == correction([real, Verdict("refused", "c", "a")][1:]) == ""


def test_two_seeds_of_one_recipe_are_said_to_be_that(store: RunStore) -> None:
    labels, ok = np.zeros(500, dtype=np.int64), np.arange(500) < 250
    better = np.arange(500) < 320
    runs = [
        write_run(store, f"s{i}", [{"val_top1": float(r.mean())}], seed=i, logits=logits_of(r, labels), labels=labels)
        for i, r in enumerate((ok, better))
    ]
    base, other = groups(runs, single=True)
    (found,) = verdicts(base, [other])
    assert found.is_real and found.sentence.endswith("They differ by seed only: this is how far seeds can be apart.")


def test_two_trainings_with_one_seed_do_not_differ_by_it(store: RunStore) -> None:
    of = {"fp32": np.arange(500) < 250, "bf16": np.arange(500) < 320}
    labels = np.zeros(500, dtype=np.int64)
    for precision, ok in of.items():
        saved = {"logits": logits_of(ok, labels), "labels": labels}
        write_run(store, precision, [{"val_top1": float(ok.mean())}], runtime__precision=precision, **saved)
    base, other = groups([store.get(i) for i in of], single=True)
    (found,) = verdicts(base, [other])
    said = "They have the same settings and seed: this is how far two trainings of them can be apart."
    assert found.is_real and found.sentence.endswith(said)


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (320, "the network dropout is 14.00 points above the network baseline (run second);"),
        (251, "cannot tell dropout and baseline (run second) apart"),
    ],
)
def test_a_verdict_on_networks_names_the_run_of_several_seeds(store: RunStore, right: int, said: str) -> None:
    labels = np.zeros(500, dtype=np.int64)
    for name, recipe, seed, n in (
        ("first", "baseline", 0, 0),
        ("second", "baseline", 1, 250),
        ("dropout", "dropout", 1, right),
    ):
        saved = {"logits": logits_of(np.arange(500) < n, labels), "labels": labels} if n else {}
        write_run(store, name, [{"val_top1": n / 500 or 0.5}], recipe=recipe, seed=seed, **saved)
    base, other = groups([store.get(i) for i in ("first", "second", "dropout")])
    (found,) = verdicts(base, [other])
    assert (found.name, found.baseline, found.runs) == ("dropout", "baseline", ("dropout", "second"))
    assert said in found.sentence


def test_an_ensemble_is_not_asked_for_seeds(store: RunStore) -> None:
    labels = np.zeros(500, dtype=np.int64)
    for name, n, members in (("one", 250, ()), ("both", 320, ("a", "b")), ("all", 252, ("a", "b", "c"))):
        saved = {"logits": logits_of(np.arange(500) < n, labels), "labels": labels}
        write_run(store, name, [{"val_top1": n / 500}], members=members, **saved)
    base, *others = groups([store.get(i) for i in ("one", "both", "all")])
    real, noise = verdicts(base, others)
    assert real.is_real and real.sentence.endswith("more than chance for these two networks (p < 0.001).")
    assert not noise.is_real and noise.sentence.startswith(
        "The test on 500 shared pictures cannot tell all and one apart"
    )


def test_correction_can_take_a_verdict_back(store: RunStore) -> None:
    flat = [0.540, 0.550, 0.545]
    close = [0.545, 0.556, 0.5475]  # p about 0.04 alone
    many = {"baseline": flat, "step-decay": close, "dropout": flat, "cosine": flat, "plateau": flat}
    of = with_seeds(store, many)
    (alone,) = verdicts(of["baseline"], [of["step-decay"]])
    among = verdicts(of["baseline"], of.values())[0]
    assert alone.is_real and not among.is_real
    assert among.p == alone.p and among.p_corrected == pytest.approx(4 * alone.p)
    assert "though it would pass alone" in among.sentence


def test_other_data_is_refused_with_its_reason(store: RunStore) -> None:
    a = write_run(store, "a", [{}])
    b = write_run(store, "b", [{}], fingerprint="e" * 32, data__name="faces-b")
    c = write_run(store, "c", [{}], fingerprint="d" * 32)
    d = write_run(store, "d", [{}], data__val_fraction=0.2)
    base, *others = groups([a, b, c, d])
    found = verdicts(base, others)
    assert [(v.kind, v.difference, v.p, v.is_real) for v in found] == [("refused", None, None, False)] * 3
    assert "b was validated on faces-b, a on fer2013: other pictures" in found[0].sentence
    assert "the data has changed between them" in found[1].reason
    assert "20 % of train held out" in found[2].reason


def test_missing_and_damaged_predictions_are_refused_with_what_to_do(store: RunStore) -> None:
    ok = np.arange(70) % 2 == 0
    of = networks(store, {"baseline": ok, "step-decay": ok})
    none = groups([write_run(store, "none", [{}], recipe="dropout")])[0]
    (store.root / "none" / "best.safetensors").touch()
    (found,) = verdicts(of["baseline"], [none])
    assert "none has no saved predictions on val. Write them with: python -m fer evaluate none" in found.reason
    (store.root / "step-decay" / "logits-val.npz").write_bytes(b"PK torn")
    (found,) = verdicts(of["baseline"], [of["step-decay"]])
    assert found.kind == "refused" and "damaged" in found.reason


@pytest.mark.parametrize(
    ("state", "split", "said"),
    [
        ("queued", "val", "a has no saved predictions on val. They are saved when it has finished."),
        ("running", "val", "They are saved when it has finished."),
        ("running", "test", "Write them when it has finished: python -m fer evaluate a --split test"),
        ("stopped", "val", "It has no weights to make them with. Go on with it: python -m fer runs resume a"),
        ("finished", "val", "It has no weights to make them with."),
    ],
)
def test_what_to_do_about_missing_predictions_is_what_can_be_done(
    store: RunStore, state: str, split: str, said: str
) -> None:
    run = write_run(store, "a", [], state=state)
    with hold(run.path / "run.lock"), pytest.raises(RunError) as refused:
        read_logits(store.get("a"), split)
    assert str(refused.value).endswith(said)


def test_predictions_of_another_epoch_are_refused(store: RunStore) -> None:
    labels = np.zeros(100, dtype=np.int64)
    ok = np.arange(100) < 50
    run = write_run(store, "old", [{"val_top1": 0.7}], logits=logits_of(ok, labels), labels=labels)
    with pytest.raises(RunError, match="not those of its best epoch"):
        read_logits(run)


def test_predictions_of_earlier_weights_are_refused_and_no_seed(store: RunStore) -> None:
    """Evaluated on test after one epoch, then resumed to a better one; the difference on val is too small to show it."""
    labels = np.zeros(1000, dtype=np.int64)
    for recipe, shift in (("baseline", 0), ("dropout", 100)):
        for seed in range(3):
            ok = np.arange(1000) < 500 + shift + seed
            run_id, rows = f"{recipe}-{seed}", [{"val_top1": ok.mean()}, {"val_top1": ok.mean() + 0.001}]
            run = write_run(store, run_id, rows, recipe=recipe, seed=seed, logits=logits_of(ok, labels), labels=labels)
            (run.path / "best.safetensors").touch()
            shutil.copy(run.path / "logits-val.npz", run.path / "logits-test.npz")
            for split in ("val", "test"):
                store.save_report(run_id, FINGERPRINT, split, {"top1": float(ok.mean()), "epoch": 2})
    runs = [store.get(i) for i in store.ids()]
    base, other = groups(runs)
    assert [v.kind for v in verdicts(base, [other], split="test")] == ["recipes"]
    store.save_report("baseline-0", FINGERPRINT, "test", {"top1": 0.5, "epoch": 1})
    (found,) = verdicts(base, [other], split="test")
    assert (found.kind, found.runs) == ("networks", ("dropout-1", "baseline-1")), "the seed that is known on both sides"
    for split in ("val", "test"):
        store.save_report("baseline-0", FINGERPRINT, split, {"top1": 0.5, "epoch": 1})
        said = f"predictions on {split} are not those of its best epoch. Write them with: python -m fer evaluate baseline-0"
        with pytest.raises(RunError, match=said):
            read_logits(runs[0], split)


@pytest.mark.parametrize("shared", [0, 20, 40])
def test_too_few_shared_pictures_are_refused(store: RunStore, shared: int) -> None:
    labels, ok = np.zeros(100, dtype=np.int64), np.arange(100) < 50
    rows, common = [{"val_top1": 0.5}], {"logits": logits_of(ok, labels), "labels": labels}
    a = write_run(store, "a", rows, **common)
    hashes = np.arange(100, dtype=np.uint64) + np.uint64(100 - shared)
    b = write_run(store, "b", rows, recipe="dropout", hashes=hashes, **common)
    base, other = groups([a, b])
    (found,) = verdicts(base, [other])
    assert found.kind == "refused"
    assert f"only {shared} of 100 val pictures in common" in found.reason


def test_the_baseline_is_not_compared_with_itself(store: RunStore) -> None:
    of = with_seeds(store, {"baseline": [0.5]})
    assert verdicts(of["baseline"], of.values()) == []


def test_noise_is_seldom_called_real_and_three_points_are_found(tmp_path: Path) -> None:
    """A hundred stores: 5 seeds of each recipe whose top-1 has the spread of FER2013's seeds, 0.7 points."""
    rng, called, found = np.random.default_rng(2026), 0, 0
    for number in range(100):
        tops = {recipe: (0.55 + rng.normal(0, 0.007, 5)).tolist() for recipe in RECIPES}
        tops["dropout"] = [top + 0.03 for top in tops["dropout"]]
        of = with_seeds(RunStore(tmp_path / str(number)), tops)
        called += verdicts(of["baseline"], [of["step-decay"]])[0].is_real
        found += verdicts(of["baseline"], [of["dropout"]])[0].is_real
    assert called <= 10
    assert found >= 90


def test_noise_between_networks_is_seldom_called_real(tmp_path: Path) -> None:
    """A hundred stores: two networks of equal merit that share what is easy, and one that is 3 points better."""
    rng, called, found = np.random.default_rng(7), 0, 0
    for number in range(100):
        easy = rng.random(3589)
        right = {r: easy + rng.normal(0, 0.15, 3589) < 0.55 for r in ("baseline", "step-decay")}
        right["dropout"] = easy + rng.normal(0, 0.15, 3589) < 0.581
        of = networks(RunStore(tmp_path / str(number)), right)
        called += verdicts(of["baseline"], [of["step-decay"]])[0].is_real
        found += verdicts(of["baseline"], [of["dropout"]])[0].is_real
    assert called <= 10
    assert found >= 90
