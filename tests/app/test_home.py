"""Home: empty, with one run, with many, with a broken one."""

from __future__ import annotations

import json

from fer.runs import RunStore
from tests.app.conftest import said
from tests.made_runs import write_run


def test_empty_store_says_what_to_do(open_page) -> None:
    home = open_page("home")
    assert not home.exception
    assert "No run has finished an epoch yet" in said(home)


def test_best_run_is_the_first_thing(open_page, add_run) -> None:
    add_run("weak", [0.40])
    add_run("strong-one", [0.50, 0.5512, 0.54])
    home = open_page("home")
    assert not home.exception
    assert "strong-one" in said(home)
    assert [m.value for m in home.metric] == ["55.1 %", "2 of 3"]
    assert "a gap of 36 points" in said(home)


def test_seeds_of_one_experiment_are_one_bar(open_page) -> None:
    for seed, top in enumerate((0.50, 0.53, 0.56)):
        write_run(RunStore(), f"base-s{seed}", [{"val_top1": top}], seed=seed)
    write_run(RunStore(), "alone", [{"val_top1": 0.54}], recipe="cosine")
    (bars,) = open_page("home").get("plotly_chart")
    assert bars.proto.alt == "Best validation top-1: alone 54.0 %, baseline 53.0 % (mean of 3 seeds)"


def test_a_seed_trained_twice_has_figure_and_epoch_of_one_run(open_page) -> None:
    for run_id, tops, created in (("older", (0.5, 0.4), 1e9), ("newer", (0.3, 0.6), 2e9)):
        write_run(RunStore(), run_id, [{"val_top1": top} for top in tops], created=created)
    (bars,) = open_page("home").get("plotly_chart")
    assert json.loads(bars.proto.spec)["data"][0]["text"] == ["60.0 % (epoch 2)  "]


def test_an_ensemble_is_networks_together_and_does_not_overfit(open_page) -> None:
    row = {"val_top1": 0.7, "train_top1": 0.99, "lr": 0.0}
    write_run(RunStore(), "both", [row], members=["a", "b"])
    home = open_page("home")
    assert [(m.label, m.value) for m in home.metric] == [("Best val top-1", "70.0 %"), ("Networks together", "2")]
    assert "overfits" not in said(home)
    (bars,) = home.get("plotly_chart")
    assert bars.proto.alt == "Best validation top-1: both 70.0 % (2 networks together)"
    assert json.loads(bars.proto.spec)["data"][0]["text"] == ["70.0 % (2 networks together)  "]


def test_photographs_come_before_synthetic_faces(open_page, add_run) -> None:
    add_run("drawn", [0.90], synthetic=True)
    add_run("real", [0.50])
    home = open_page("home")
    assert home.metric[0].value == "50.0 %"


def test_a_broken_run_hides_nothing(open_page, add_run) -> None:
    add_run("fine", [0.5])
    broken = RunStore().root / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"sch')
    home = open_page("home")
    assert not home.exception
    assert home.metric[0].value == "50.0 %"


def test_a_name_from_a_user_is_never_markup(open_page, add_run) -> None:
    add_run("named", [0.5])
    (RunStore().folder("named") / "notes.json").write_text(json.dumps({"name": "[x](http://e) <b>:red[y]"}))
    home = open_page("home")
    assert not home.exception
    assert any(r"\[x\]\(http\:" in e.value for e in home.subheader)


def test_what_a_shipped_run_remarks_stands_beside_its_figures(open_page, add_run) -> None:
    add_run("shipped", [0.5])
    path = RunStore().folder("shipped") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "remark": "Trained on a busy machine."}))
    assert "Trained on a busy machine." in said(open_page("compare"))
    assert "Trained on a busy machine." not in said(open_page("home"))
