"""The report: every question answered, one file, and no name or note that gets out of its place."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer.cli import main
from fer.config import parse_assignments, with_settings
from fer.data.dataset import SAMPLE, Dataset, dataset_path, save
from fer.data.sample import VERSION
from fer.errors import RunError
from fer.files import PROJECT_ROOT
from fer.recipes import get_recipe
from fer.report import Comparison, as_html, as_json, as_markdown, command, compare, speaker
from fer.runs import RunStore
from tests.made_runs import FINGERPRINT, logits_of, write_run

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>|`*x*`\n# {{ 7*7 }} %{x}"
CURVE = [
    {"val_top1": t, "train_top1": t + 0.2, "val_loss": v} for t, v in ((0.4, 1.4), (0.5, 1.2), (0.5, 1.5), (0.5, 2.4))
]
MODEL = {
    "name": "net",
    "input_shape": [3, 48, 48],
    "layers": [
        {"name": "0", "kind": "Conv2d", "detail": "5x5, 3 to 32", "output_shape": [32, 44, 44], "num_params": 2432, "multiply_adds": 4646400},
        {"name": "1", "kind": "Linear", "detail": "512 to 7", "output_shape": [7], "num_params": 3591, "multiply_adds": 3584},
    ],
}  # fmt: skip


@pytest.fixture
def study() -> Comparison:
    store = RunStore(PROJECT_ROOT / "checkpoints")
    return compare([store.get(r) for r in ("baseline", "step-decay", "exponential-decay", "grouped-conv")])


class Seen(HTMLParser):
    """The tags of a page, its attributes that could load or run something, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if len(data) < 100_000:  # not plotly.js
            self.text.append(data)


def seen(page: str) -> Seen:
    parser = Seen()
    parser.feed(page)
    parser.close()
    return parser


def test_every_question_has_its_answer(study: Comparison) -> None:
    page = seen(as_html(study))
    text = " ".join(" ".join(page.text).split())
    for question in (
        "Which data?", "Which network?", "Which set-up?", "How did they learn?", "What came out?", "What do the curves say?",
        "How do the schedules compare?", "How do the convolutions compare?", "Which differences are real?", "What to try next?",
    ):  # fmt: skip
        assert question in text
    best = max((g.runs[0] for g in study.groups), key=lambda r: r.best["val_top1"])
    top1 = f"{100 * best.best['val_top1']:.2f} %"
    assert f"{best.name} reaches the highest val top-1: {top1} in epoch {best.best['epoch']}" in text
    assert all(v.sentence in text for v in study.verdicts)
    assert "5x5, 66 to 132, 3 groups 132 × 5 × 5 72,732" in text
    assert "all convolutions 91,806 9,292,800" in text
    assert study.steps and all(s.command.splitlines()[0] in text for s in study.steps)
    assert f"{study.groups[2].runs[0].metrics[10]['lr']:.3g}" in text  # exponential decay in epoch 11


def test_the_page_is_one_file_that_loads_nothing(study: Comparison) -> None:
    page = as_html(study)
    found = seen(page)
    assert not {"link", "img", "iframe", "object", "base"} & set(found.tags)
    assert [v for k, v in found.attributes if k in ("src", "srcset") or (k == "href" and not v.startswith("#"))] == []
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1
    assert len(page) < 7_000_000


def figures_in(page: str) -> dict[str, Any]:
    return json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)[1])


def test_charts_hold_the_runs_figures_in_both_themes(study: Comparison) -> None:
    page = as_html(study)
    charts = figures_in(page)
    assert set(charts) == {"config", "loss", "top1", "macro_f1", "lr", "differences", "schedules"}
    line = next(
        t for t in charts["top1"]["light"]["data"] if t.get("mode") == "lines+markers" and t["name"] == "step-decay"
    )
    assert max(line["y"]) == pytest.approx(100 * study.groups[1].runs[0].best["val_top1"])
    inks = {charts["loss"][mode]["layout"]["template"]["layout"]["font"]["color"] for mode in ("light", "dark")}
    assert len(inks) == 2
    assert sum(k == "aria-label" and "Loss (cross entropy) against epoch" in v for k, v in seen(page).attributes) == 1


def hostile(store: RunStore) -> Comparison:
    """Everything in a run's folder that is free text, made to do harm."""
    model = json.loads(json.dumps(MODEL))
    model["name"] = model["layers"][0]["detail"] = model["layers"][0]["kind"] = EVIL
    of_class = {"recall": 0.5, "precision": 0.5, "f1": 0.5, "n": 10}
    report = {"top1": 0.5, "per_class": {EVIL: of_class, "b": of_class}}
    common: dict[str, Any] = {"notes": {"name": EVIL, "note": EVIL}, "model": model, "report": report}
    runs = [write_run(store, i, CURVE, recipe=r, **common) for i, r in (("a", "baseline"), ("b", "dropout"))]
    status = {"state": "finished", "device_name": EVIL, "precision": EVIL, "versions": {"torch": EVIL}}
    store.write_status("a", status)
    record = json.loads((store.root / "a" / "config.json").read_text())
    record["remark"] = record["data"]["split_note"] = EVIL
    (store.root / "a" / "config.json").write_text(json.dumps(record))
    return compare([store.get(r.id) for r in runs])


def test_no_name_or_note_gets_out_of_its_place(store: RunStore) -> None:
    of = hostile(store)
    page = as_html(of)
    found = seen(page)
    assert found.tags.count("script") == 3
    assert "img" not in found.tags
    assert not [k for k, _ in found.attributes if k.startswith("on")]
    block = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1]
    assert not set("<>&") & set(block)
    shown = [
        t.get(k) or ""
        for c in figures_in(page).values()
        if "light" in c
        for t in c["light"]["data"]
        for k in ("name", "hovertemplate")
    ]
    assert not any("<img" in text or "<script" in text for text in shown)
    assert "{{ 7*7 }}" in " ".join(found.text)  # the template does not look into names


def test_markdown_of_hostile_names_is_text(store: RunStore) -> None:
    text = as_markdown(hostile(store))
    assert not re.search(r"(?<!\\)<", text)
    rows = [line for line in text.splitlines() if line.startswith("| Best val top-1")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
    assert not any(line.startswith("# {{") for line in text.splitlines())


def test_markdown_has_tables_and_sentences(study: Comparison) -> None:
    text = as_markdown(study)
    tops = " | ".join(f"{100 * g.runs[0].best['val_top1']:.2f}" for g in study.groups)
    assert f"| Best val top-1, % | {tops} |" in text
    assert "| Conv2d | 5x5, 3 to 33, 3 groups | 33 × 44 × 44 | 858 | 1,597,200 |" in text
    plain = text.replace("\\", "")
    assert all(f.evidence in plain for found in study.findings.values() for f in found)
    assert all(v.sentence in plain for v in study.verdicts)


def test_markdown_has_the_tables_of_the_page(study: Comparison) -> None:
    text = as_markdown(study).replace("\\", "")
    run = study.groups[0].runs[0]
    row = run.report("val")["confusion_matrix"][3]
    assert f"| happy | {' | '.join(f'{100 * n / sum(row):.0f}' for n in row)} |" in text
    assert "| convolutions of baseline | output shape | parameters | multiply-adds |" in text
    assert "| 5x5, 66 to 132, 3 groups | 132 × 5 × 5 | 72,732 |" in text
    assert "| all convolutions | | 91,806 | 9,292,800 |" in text
    assert f"| train.batch_size | {run.config.train.batch_size} |" in text
    finding = next(f for f in study.findings[run.id] if f.remedies)
    assert f"{finding.evidence}. May help: {'; '.join(r.title for r in finding.remedies)}." in text


def test_markdown_has_notes_and_the_classes_of_each_split(store: RunStore, tiny: Dataset) -> None:
    note = {"notes": {"name": "mine", "note": "a first line\nand | a second"}}
    run = write_run(store, "a", CURVE, data__name="tiny", fingerprint=tiny.fingerprint, **note)
    text = as_markdown(compare([run]))
    assert "- Note on mine: a first line and \\| a second\n" in text
    assert "| class (tiny) | train | val |\n|---|---:|---:|\n| angry | 20 | 10 |\n" in text


def test_each_group_has_its_confusions_by_row(study: Comparison) -> None:
    text = " ".join(" ".join(seen(as_html(study)).text).split())
    report = study.groups[0].runs[0].report("val")
    row = report["confusion_matrix"][3]
    shares = " ".join(f"{100 * n / sum(row):.0f}" for n in row)
    assert text.count("What is taken for what") == 1
    assert f"happy {shares} neutral" in text
    assert "p values are corrected for 3 comparisons by Holm's method" in text
    assert "Holm" not in study.verdicts[0].sentence


@pytest.mark.parametrize(
    "matrix", [None, [[1, 2]], [["<img>", 1], [1, 1]], [[float("nan"), 1], [1, 1]], [[0, 0], [1, 3]]]
)
def test_a_damaged_confusion_matrix_is_left_out(store: RunStore, matrix: Any) -> None:
    report = {"top1": 0.5, "classes": ["<b>", "b"], "confusion_matrix": matrix}
    page = as_html(compare([write_run(store, "a", CURVE, report=report)]))
    whole = matrix == [[0, 0], [1, 3]]
    assert ("What is taken for what" in page) == ("<th>&lt;b&gt;</th>" in page) == whole


def test_json_is_flat(study: Comparison) -> None:
    value = as_json(study)
    json.dumps(value, allow_nan=False)
    for row in [*value["groups"], *value["verdicts"]]:
        assert all(not isinstance(v, list | dict) for v in row.values())
    assert [g["best_val_top1"] for g in value["groups"]][:1] == [study.groups[0].runs[0].best["val_top1"]]
    assert [v["name"] for v in value["verdicts"]] == ["step-decay", "exponential-decay", "grouped-conv"]


def test_seeds_are_grouped_and_the_bands_are_drawn(store: RunStore) -> None:
    runs = [
        write_run(store, f"{r}-{s}", [{"val_top1": t + d + s / 500} for t in (0.4, 0.5)], recipe=r, seed=s, model=MODEL)
        for r, d in (("baseline", 0.0), ("dropout", 0.05))
        for s in range(3)
    ]
    of = compare(runs)
    assert [g.n for g in of.groups] == [3, 3]
    assert of.verdicts[0].kind == "recipes" and of.verdicts[0].is_real
    page = as_html(of)
    assert any(t.get("fill") == "toself" for t in figures_in(page)["top1"]["light"]["data"])
    text = " ".join(" ".join(seen(page).text).split())
    assert "mean of 3 seeds" in text and "50.20 ± 0.20" in text and "Real (about the recipes):" in text
    assert not any(s.title == "More seeds" for s in of.steps)
    assert len(compare(runs, grouped=False).groups) == 6


def test_seeds_that_wait_are_not_in_the_mean_and_do_not_speak(store: RunStore) -> None:
    runs = [write_run(store, f"s{s}", [{"val_top1": 0.4 + s / 10}], seed=s) for s in (0, 1)]
    runs += [write_run(store, f"s{s}", [], seed=s, state="queued") for s in (2, 3, 4)]
    of = compare(runs)
    text = " ".join(" ".join(seen(as_html(of)).text).split())
    assert "reaches 45.00 % val top-1, mean of 2 seeds" in text and "Of its 2 seeds" in text
    assert "| Seeds | 2 |" in as_markdown(of)
    assert speaker(of.groups[0]).id == "s1"
    alone = compare([runs[0], runs[2]])
    text = " ".join(" ".join(seen(as_html(alone)).text).split())
    assert "reaches 40.00 % val top-1 in epoch 1" in text and "Of its" not in text


def test_calibration_is_shown_where_it_is_known(store: RunStore) -> None:
    known = {"top1": 0.5, "calibration": {"temperature": 1.5, "ece_before": 0.2, "ece_after": 0.031, "bins": 15}}
    a, b = write_run(store, "a", CURVE, report=known), write_run(store, "b", CURVE, recipe="dropout")
    assert "| after temperature scaling, % | 3.10 | – |" in as_markdown(compare([a, b]))
    assert "temperature scaling" not in as_markdown(compare([b]))


def test_runs_without_epochs_and_a_lone_run_have_a_report(store: RunStore) -> None:
    waiting = write_run(store, "a", [], state="queued")
    page = " ".join(seen(as_html(compare([waiting]))).text)
    assert "No run has finished an epoch yet." in page and "No run has its layer table yet" in page
    assert "No run has finished an epoch yet." in as_markdown(compare([waiting]))
    alone = compare([write_run(store, "b", CURVE)])
    assert "It takes a second experiment to tell a difference." in as_html(alone)
    assert alone.verdicts == ()


def test_another_data_set_has_its_banner_and_no_verdict(store: RunStore) -> None:
    a, b = write_run(store, "a", CURVE), write_run(store, "b", CURVE[:2], fingerprint="e" * 32, data__name="other")
    of = compare([a, b])
    page = " ".join(" ".join(seen(as_html(of)).text).split())
    assert "Different data: these figures cannot be compared" in page
    assert "No verdict : b was validated on other, a on fer2013" in page.replace("No verdict:", "No verdict :")
    assert of.rows[1]["difference"] is None
    assert [g.label for g in of.ranked] == ["a"]


def test_the_headline_names_the_data_where_they_differ(store: RunStore) -> None:
    runs = [write_run(store, "a", CURVE)]
    runs += [
        write_run(store, i, [{"val_top1": t}], fingerprint="e" * 32, data__name="other", recipe=r)
        for i, t, r in (("b", 0.9, "dropout"), ("c", 0.8, "cosine"))
    ]
    said = [
        "On fer2013: a reaches 50.00 % val top-1 in epoch 2",
        "On other: b reaches the highest val top-1: 90.00 % in epoch 1",
    ]
    assert compare(runs).headlines == said
    text, page = as_markdown(compare(runs)), " ".join(seen(as_html(compare(runs))).text)
    assert all(f"**{sentence}.**" in text and sentence in page for sentence in said)
    assert compare(runs[:1]).headlines == ["a reaches 50.00 % val top-1 in epoch 2"]


def test_a_report_on_test_says_so(store: RunStore) -> None:
    runs = [
        write_run(store, f"{r}-{s}", [{"val_top1": 0.5 + s / 100}], recipe=r, seed=s)
        for r in ("baseline", "dropout")
        for s in range(3)
    ]
    for run, top1 in zip(runs, (0.5, 0.51, 0.52, 0.6, 0.61, 0.62), strict=True):
        store.save_report(run.id, FINGERPRINT, "test", {"top1": top1 + run.config.seed / 1000, "epoch": 1})
    on_val, on_test = (as_html(compare(runs, split=split)) for split in ("val", "test"))
    said = "The verdicts are about the test split."
    assert said in on_test and said in as_markdown(compare(runs, split="test"))
    assert "In top-1 on test. Over seeds:" in on_test and "In top-1 on val. Over seeds:" in on_val
    assert said not in on_val and said not in as_markdown(compare(runs))
    title = figures_in(on_test)["differences"]["light"]["layout"]["xaxis"]["title"]["text"]
    assert title == "top-1 on test against baseline, points"


def test_the_pictures_of_the_sample_faces_are_counted_where_they_were_drawn(store: RunStore, tiny: Dataset) -> None:
    data = dataclasses.replace(tiny, name=SAMPLE, meta={"version": VERSION, "synthetic": True})
    run = write_run(store, "a", CURVE, data__name=SAMPLE, fingerprint=data.fingerprint)
    assert "is not at hand" in as_html(compare([run])) and not dataset_path(SAMPLE).exists()
    save(data)
    assert "train: 140 pictures; val: 70 pictures" in as_html(compare([run]))


def test_the_baseline_is_the_one_asked_for_even_if_not_among_the_runs(store: RunStore) -> None:
    a, b = write_run(store, "a", CURVE, recipe="dropout"), write_run(store, "b", CURVE[:2])
    assert compare([a, b]).baseline.key == "b"
    assert compare([a]).baseline.key == "a"
    of = compare([a], b)
    assert (of.baseline.key, len(of.groups)) == ("b", 2)


def test_what_cannot_be_compared_is_refused(store: RunStore) -> None:
    with pytest.raises(RunError, match="no run to compare"):
        compare([])
    (store.root / "torn").mkdir()
    with pytest.raises(RunError, match="'torn' cannot be read"):
        compare([store.get("torn")])


def test_what_ran_where_has_a_row_for_each_machine_of_a_group(store: RunStore) -> None:
    ran = [("Xeon", 1, "fp32"), ("EPYC", 2, "fp32"), ("EPYC", 2, "fp32"), ("EPYC", 2, "bf16")]
    for seed, (device, threads, precision) in enumerate(ran):
        run = write_run(store, f"s{seed}", CURVE, seed=seed)
        where = {"device_name": device, "threads": threads, "precision": precision, "versions": {"torch": "2.15"}}
        store.write_status(run.id, {"state": "finished", **where})
    of = compare(store.runs())
    label = of.groups[0].label
    told = [line for line in as_markdown(of).splitlines() if line.startswith(f"- {label}: seeds")]
    assert told == [
        f"- {label}: seeds 0; Xeon, 1 threads, fp32, torch 2.15",
        f"- {label}: seeds 1, 2; EPYC, 2 threads, fp32, torch 2.15",
        f"- {label}: seeds 3; EPYC, 2 threads, bf16, torch 2.15",
    ]
    text = " ".join(" ".join(seen(as_html(of)).text).split())
    assert "0 Xeon 1 fp32 2.15" in text and "1, 2 EPYC 2 fp32 2.15" in text and "3 EPYC 2 bf16 2.15" in text


def test_a_report_leaves_what_it_read_as_it_was(store: RunStore) -> None:
    run = write_run(store, "a", CURVE, model=MODEL)
    as_html(compare([run]))
    assert dict(run.model) == MODEL


@pytest.mark.parametrize("lr", [0.001, 0.00012345678])
def test_commands_do_what_they_say(store: RunStore, lr: float) -> None:
    run = write_run(store, "a", CURVE, optim__lr=lr, train__patience=7)
    of = compare([run])
    step = next(s for s in of.steps if s.title == "Dropout")
    words = shlex.split(step.command)
    assert words[:4] == ["python", "-m", "fer", "train"]
    options = list(zip(words[4::2], words[5::2], strict=True))
    changes = parse_assignments(v for k, v in options if k == "--set")
    made = with_settings(get_recipe(dict(options)["--recipe"]).config(), {**changes, "data.name": "fer2013"})
    assert made == with_settings(run.config, {"model.dropout": 0.5})


def test_more_seeds_are_asked_for_where_there_are_too_few(store: RunStore) -> None:
    labels, ok = np.zeros(50, dtype=np.int64), np.arange(50) < 25
    saved: dict[str, Any] = {"logits": logits_of(ok, labels), "labels": labels}
    runs = [write_run(store, r, [{"val_top1": 0.5}], recipe=r, seed=1, **saved) for r in ("baseline", "dropout")]
    first = compare(runs).steps[0]
    assert first.title == "More seeds"
    assert [line.split("--seed ")[1] for line in first.command.splitlines()] == ["0", "2", "0", "2"]
    assert command(runs[1], seed=0).startswith("python -m fer train --recipe dropout --dataset fer2013")


def test_no_seeds_are_asked_for_where_they_would_tell_nothing(store: RunStore) -> None:
    """Of what goes on from another run's weights; and of one recipe whose seeds are looked at one by one."""
    labels, ok = np.zeros(50, dtype=np.int64), np.arange(50) < 25
    saved: dict[str, Any] = {"logits": logits_of(ok, labels), "labels": labels}
    first = write_run(store, "first", [{"val_top1": 0.5}], **saved)
    on = write_run(store, "on", [{"val_top1": 0.5}], model__from_run="first", **saved)
    of = compare([first, on])
    assert [v.kind for v in of.verdicts] == ["networks"]
    assert not any(s.title == "More seeds" for s in of.steps)
    seeds = [first, write_run(store, "s1", [{"val_top1": 0.5}], seed=1, **saved)]
    assert not any(s.title == "More seeds" for s in compare(seeds, grouped=False).steps)
    other = write_run(store, "other", [{"val_top1": 0.5}], recipe="dropout", **saved)
    step = next(s for s in compare([*seeds, other], grouped=False).steps if s.title == "More seeds")
    assert [line.split("--seed ")[1] for line in step.command.splitlines()] == ["2", "1", "2"]


def test_a_run_that_was_broken_off_is_to_be_resumed(store: RunStore) -> None:
    curve = [{"train_loss": 1.6 - e / 5, "val_loss": 1.5 - e / 10, "val_top1": 0.3 + e / 20} for e in range(5)]
    steps = compare([write_run(store, "a", curve, state="stopped", train__epochs=25)]).steps
    assert [s.command for s in steps if s.title == "Resume a"] == ["python -m fer runs resume a"]
    assert not any("train.epochs" in s.command for s in steps if "epochs" in s.title)


def test_a_command_with_a_remedy_keeps_the_seed(store: RunStore) -> None:
    run = write_run(store, "a", CURVE, seed=2)
    step = next(s for s in compare([run]).steps if s.title == "Dropout")
    assert step.command.endswith("--set train.epochs=4 --set model.dropout=0.5 --seed 2")
    assert command(run, seed=0).endswith("--seed 0")
    assert "--seed" not in command(write_run(store, "b", CURVE))


def test_long_names_that_are_cut_alike_keep_a_schedule_each(store: RunStore) -> None:
    names = [f"the same long beginning, {middle}, and the same end" for middle in ("slow", "fast")] + ["short"]
    for i, (name, rate, steps) in enumerate(zip(names, (0.001, 0.002, 0.003), (2, 3, 4), strict=True)):
        run = write_run(store, f"r{i}", CURVE, optim__lr=rate, notes={"name": name}, schedule__name="exponential")
        store.write_status(run.id, {"state": "finished", "epoch": 4, "steps_per_epoch": steps})
    chart = figures_in(as_html(compare([store.get(f"r{i}") for i in range(3)])))["schedules"]["light"]
    lines = {t["name"]: t for t in chart["data"]}
    assert list(lines) == names
    assert [max(lines[name]["y"]) for name in names] == [0.001, 0.002, 0.003]
    assert [sum(x < 1 for x in lines[name]["x"]) for name in names] == [2, 3, 4]


def test_an_ensemble_is_compared_and_not_diagnosed(store: RunStore) -> None:
    labels, ok = np.zeros(50, dtype=np.int64), np.arange(50) < 25
    saved: dict[str, Any] = {"logits": logits_of(ok, labels), "labels": labels}
    row = [{"val_top1": 0.5, "train_top1": 0.99}]
    runs = [write_run(store, r, row, recipe=r, **saved) for r in ("baseline", "dropout")]
    runs += [write_run(store, f"both-{i}", row, members=["baseline", "dropout"], **saved) for i in range(2)]
    of = compare(runs)
    assert [g.label for g in of.groups] == ["baseline", "dropout", "both-0", "both-1"]
    assert [v.kind for v in of.verdicts] == ["networks"] * 3
    assert of.findings["both-0"] == () and of.findings["dropout"]
    assert as_html(of).count("The rules read training curves, and an ensemble has none.") == 2
    text = as_markdown(of)
    assert (
        "- both-0: the rules read training curves, and an ensemble has none." in text and "nothing stands" not in text
    )
    assert len(of.steps[0].command.splitlines()) == 4  # two more seeds of each network, none of an ensemble
    assert not any("both-" in t.sentence for t in of.together)


def test_an_ensemble_is_no_training(store: RunStore) -> None:
    made = [write_run(store, r, CURVE, recipe=r) for r in ("baseline", "dropout")]
    made.append(write_run(store, "both", [{"val_top1": 0.6, "lr": 0.0}], members=["baseline", "dropout"]))
    of = compare(made)
    text, page = as_markdown(of), as_html(of)
    assert "both reaches the highest val top-1: 60.00 %, 2 networks together" in " ".join(seen(page).text)
    assert "| Seeds | 1 | 1 | – |" in text and "| in epoch | 2 | 2 | – |" in text
    assert "| Epochs trained | 4 of 4 | 4 of 4 | – |" in text
    assert "- both: seeds" not in text
    assert "both" not in text.split("## Schedules")[1].split("## Networks")[0]
    charts = figures_in(page)
    assert {t["name"] for t in charts["schedules"]["light"]["data"]} == {"baseline", "dropout"}
    assert {t["name"] for t in charts["lr"]["light"]["data"]} == {"baseline", "dropout"}
    assert "both" in {t["name"] for t in charts["top1"]["light"]["data"]}


def test_ensembles_alone_have_a_report_without_schedules(store: RunStore) -> None:
    of = compare([write_run(store, f"both-{i}", [{"lr": 0.0}], members=["a", "b"]) for i in range(2)])
    page = as_html(of)
    assert "schedules" not in figures_in(page)
    assert "No training here has ended an epoch." in page
    assert "No training here has ended an epoch." in as_markdown(of)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two(store: RunStore) -> None:
    write_run(store, "a", CURVE)
    write_run(store, "b", CURVE[:2], recipe="dropout")


def test_fer_compare_writes_what_it_is_asked_for(two: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    assert main(["compare", "b", "--baseline", "a", "--html", str(page), "--markdown", str(text)]) == 0
    said = capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    assert text.read_text().startswith("# Comparison with a\n")
    assert "No verdict: b has no saved predictions on val." in said
    assert f"written: {page}" in said


def test_fer_compare_prints_one_json_document(two: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "b", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["baseline"], [g["id"] for g in value["groups"]]) == ("a", ["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "gone"], "There is no run 'gone'"),
        (["a", "--baseline", "gone"], "There is no run 'gone'"),
        (["a", "--html", "/nowhere/at/all/r.html"], "cannot be written"),
        (["a", "--split", "vel"], "There is no split 'vel'"),
    ],
)
def test_fer_compare_says_what_is_wrong(
    two: None, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_fer_compare_leaves_torch_alone(two: None) -> None:
    code = "import sys; from fer.cli import main; main(['compare', 'a', 'b']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
