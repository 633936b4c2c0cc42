"""What is broken in a store is found, named and, where nothing must be guessed, mended; a thousand mutations crash nobody."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import random
import shutil
import time
from pathlib import Path

import pytest
import safetensors.torch

from fer import repair
from fer.config import read_config, with_settings
from fer.data import dataset
from fer.errors import FerError
from fer.evaluate import evaluate_run
from fer.files import PROJECT_ROOT
from fer.recipes import get_recipe
from fer.repair import Finding, check_store
from fer.runs import STATES, Run, RunStore, by_merit, hold
from tests.made_runs import write_run
from tests.mutations import FILES, MUTATIONS


def named(found: list[Finding]) -> set[str]:
    return {f"{f.run}/{f.file}" for f in found}


def test_a_whole_store_has_nothing_to_say(store, finished_run, make_run):
    make_run("queued")
    assert check_store(store) == []
    assert check_store(RunStore(store.root / "not-there")) == []


def damage_all(path: Path) -> None:
    """One damage of each kind, as crashes and bad disks leave them."""
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4, "l')
    (path / "status.json").write_bytes(b"\0" * 40)
    (path / "notes.json").write_text("{")
    (path / "report.json").write_text("")
    (path / "logits-val.npz").write_bytes((path / "logits-val.npz").read_bytes()[:-50])
    (path / "resume.pt").write_bytes(b"PK\3\4")
    (path / ".resume.pt.abc.tmp").write_bytes(b"half")
    (path / ".reserve").write_bytes(b"\0")
    (path / "stop").touch()


BROKEN = ("metrics.jsonl", "status.json", "notes.json", "report.json", "logits-val.npz", "resume.pt")
LEFT = (".resume.pt.abc.tmp", ".reserve", "stop")


def test_each_damage_is_named_and_looking_mends_nothing(store, finished_run):
    damage_all(finished_run.path)
    before = {p.name: p.read_bytes() for p in finished_run.path.iterdir()}
    found = check_store(store)
    assert named(found) == {f"done/{name}" for name in (*BROKEN, *LEFT)}
    assert not any(f.mended for f in found)
    assert {p.name: p.read_bytes() for p in finished_run.path.iterdir()} == before


def test_repair_mends_them_and_puts_aside_what_was_there(store, finished_run):
    figures = list(finished_run.metrics)
    damage_all(finished_run.path)
    found = check_store(store, repair=True)
    assert all(f.mended for f in found), [str(f) for f in found if not f.mended]
    run = store.get("done")
    assert (run.state, list(run.metrics), run.problems) == ("finished", figures, ())
    assert check_store(store) == []
    assert not any((run.path / name).exists() for name in LEFT)
    assert (run.path / "notes.json.damaged").read_text() == "{"


def test_settings_come_back_from_the_weights(store, finished_run):
    (finished_run.path / "config.json").write_text("{")
    assert store.get("done").state == "broken"
    (finding,) = [f for f in check_store(store, repair=True) if f.mended]
    assert finding.file == "config.json"
    back = store.get("done")
    assert back.config == finished_run.config
    assert (back.fingerprint, back.synthetic) == (finished_run.fingerprint, finished_run.synthetic)
    assert back.record == finished_run.record
    assert str(finding).endswith(
        "Mended: the settings are written again as the weights' header has them; not known any more: who launched it."
    )


def without_record(path: Path, run_id: str, settings: dict[str, object]) -> None:
    """Make the weights' header one of before, which kept settings and data alone."""
    with safetensors.safe_open(path, framework="pt") as file:
        head, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    extra = {k: v for k, v in json.loads(head["extra"]).items() if k != "record"}
    config = with_settings(read_config(json.loads(head["config"])), settings)
    head |= {"extra": json.dumps({**extra, "run": run_id}), "config": config.model_dump_json()}
    path.write_bytes(safetensors.torch.save(tensors, metadata=head))


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize(("run_id", "recipe"), [("step-decay-s0-0a1b", "step-decay"), ("mine", "custom")])
def test_weights_of_before_are_helped_out_by_report_status_id_and_data(store, finished_run, here, run_id, recipe):
    note, fingerprint = "This data set has no separate test split.", finished_run.fingerprint
    without_record(finished_run.path / "best.safetensors", run_id, {"train.epochs": 3})
    store.write_status("done", {**finished_run.status, "queued": finished_run.created})
    (finished_run.path / "config.json").write_text("{")
    if here:
        dataset.save(dataclasses.replace(dataset.load("tiny"), meta={"split_note": note}))
    else:
        dataset.delete("tiny")
        store.save_report("done", fingerprint, "val", {**finished_run.report(), "split_note": note})
    (finding,) = [f for f in check_store(store, repair=True) if f.mended]
    back = store.get("done")
    assert (back.split_note, back.recipe, back.created, back.fer2013) == (note, recipe, finished_run.created, False)
    assert ("its recipe" in finding.cure) == (recipe == "custom")
    assert ("whether its pictures are FER2013's" in finding.cure) == (not here)
    assert "who launched it" in finding.cure and "a note on its splits" not in finding.cure


def test_what_cannot_be_known_any_more_is_named_and_settings_name_their_recipe(store, finished_run):
    settings = get_recipe("dropout").config().model_dump(mode="json")
    changes = {path: value for path, value in flat(settings).items() if path != "data.name"} | {
        "model.from_run": "first"
    }
    without_record(finished_run.path / "best.safetensors", "mine", changes)
    status = {**finished_run.status, "first_weights": {"run": "first-here", "file": "best.safetensors", "sha256": "0"}}
    store.write_status("done", status)
    dataset.delete("tiny")
    for name in ("config.json", "report.json"):
        (finished_run.path / name).unlink()
    (finding,) = [f for f in check_store(store, repair=True) if f.mended and f.file == "config.json"]
    assert (
        "a note on its splits, whether its pictures are FER2013's, a note on the run that it began from" in finding.cure
    )
    back = store.get("done")
    assert back.config.model.from_run == "first-here" and back.recipe == "custom"  # from_run is no part of a recipe
    without_record(finished_run.path / "best.safetensors", "mine", {"model.from_run": None})
    (finished_run.path / "config.json").unlink()
    check_store(store, repair=True)
    assert store.get("done").recipe == "dropout"


def flat(settings: dict[str, dict[str, object]]) -> dict[str, object]:
    """`{dotted path: value}` of the settings that lie in a section."""
    return {f"{a}.{b}": v for a, section in settings.items() if isinstance(section, dict) for b, v in section.items()}


def test_the_best_weights_come_back_where_the_last_epoch_was_the_best(store, finished_run):
    best = finished_run.best["epoch"] == finished_run.last["epoch"]
    content = (finished_run.path / "last.safetensors").read_bytes()
    (finished_run.path / "best.safetensors").unlink()
    (finding,) = check_store(store, repair=True)
    assert (finding.file, finding.what, finding.mended) == ("best.safetensors", "it is missing", best)
    assert (finished_run.path / "best.safetensors").exists() == best
    assert not best or (finished_run.path / "best.safetensors").read_bytes() == content


def test_an_ensemble_has_its_members_weights_and_what_ships_without_has_none(store):
    members = [write_run(store, i, [{"val_top1": 0.5}]) for i in ("a", "b")]
    for run in members:
        shutil.copy(PROJECT_ROOT / "checkpoints" / "strong" / "best.safetensors", run.path)
    write_run(store, "both", [{"val_top1": 0.5}], members=["a", "b"])
    assert check_store(store) == []
    (members[1].path / "best.safetensors").unlink()
    assert {(f.run, f.file) for f in check_store(store)} == {("b", "best.safetensors"), ("both", "config.json")}
    record = members[1].path / "config.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "without_weights": True}))
    assert {f.run for f in check_store(store)} == {"both"}


def test_what_ships_is_whole():
    store = RunStore(PROJECT_ROOT / "checkpoints")
    assert [str(f) for f in check_store(store) if f.run in store.shipped()] == []


def test_a_lost_run_is_called_failed_and_can_be_resumed(store, make_run):
    make_run("gone")
    store.write_status("gone", {"state": "running"})
    (finding,) = check_store(store, repair=True)
    assert (finding.file, finding.mended) == ("status.json", True)
    assert store.get("gone").state == "failed"
    assert store.requeue("gone").state == "queued"


def test_a_lost_run_that_the_worker_or_the_cluster_has_yet_to_see_to_is_left_alone(store, make_run):
    make_run("here")
    store.write_status("here", {"state": "running", "worker": platform.node()})
    make_run("there")
    ray = {"address": "http://127.0.0.1:8265", "job": "j", "cpus": 1, "gpus": 0, "memory_gib": 2}
    store.write_status("there", {"state": "running", "ray": ray})
    assert [store.get(i).state for i in ("here", "there")] == ["lost", "lost"]
    found = {f.run: f for f in check_store(store, repair=True)}
    assert not any(f.mended for f in found.values())
    assert found["here"].cure == "the worker queues it again"
    assert found["there"].cure.startswith("the worker asks the cluster again")
    assert [store.get(i).state for i in ("here", "there")] == ["lost", "lost"]


def test_a_run_that_trains_and_one_that_came_with_the_project_are_left_alone(store, make_run, finished_run):
    make_run("live")
    store.write_status("live", {"state": "running"})
    (store.root / "live" / ".resume.pt.1.tmp").touch()
    (store.root / "shipped.json").write_text('["done"]')
    (finished_run.path / "notes.json").write_text("{")
    with hold(store.root / "live" / "run.lock"):
        (finding,) = check_store(store, repair=True)
    assert (finding.run, finding.mended) == ("done", False)
    assert (store.root / "live" / ".resume.pt.1.tmp").exists()


def test_old_drafts_and_empty_folders_are_cleared_away_and_young_ones_are_not(store):
    for name in (".new-old", ".deleted-old", ".new-young"):
        (store.root / name).mkdir()
    for name in (".new-old", ".deleted-old"):
        os.utime(store.root / name, (time.time() - 7200,) * 2)
    (store.root / "empty").mkdir()
    assert named(check_store(store, repair=True)) == {"/.new-old", "/.deleted-old", "empty/"}
    assert sorted(os.listdir(store.root)) == [".new-young", ".trash"]
    assert [t.run for t in store.trash()] == ["empty"]


def test_a_run_that_is_deleted_and_a_draft_that_is_placed_meanwhile_stop_no_check(store, monkeypatch):
    for run_id in ("a", "b", "c", "d"):
        write_run(store, run_id, [{}])
    (store.root / "d" / "notes.json").write_text("{")
    (store.root / ".new-1").mkdir()
    look, scan = repair._of_run, os.scandir

    def deletes_meanwhile(of_store, run):
        if run.id == "a":
            store.delete("b")
        if run.id == "c":
            store.delete("c")
        yield from look(of_store, run)

    def places_meanwhile(path):
        entries = list(scan(path))
        os.rename(store.root / ".new-1", store.root / "placed")
        return entries

    monkeypatch.setattr(repair, "_of_run", deletes_meanwhile)
    found = check_store(store)
    assert {f.run for f in found} == {"a", "d"}
    monkeypatch.setattr(os, "scandir", places_meanwhile)
    assert list(repair._of_store(store)) == []


def test_a_flipped_bit_that_still_reads_well_is_seen_by_its_checksum(store, finished_run):
    weights = finished_run.path / "best.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    (finding,) = check_store(store)
    assert (finding.file, finding.what) == ("best.safetensors", "it is not what the trainer wrote")


# A thousand mutations

# A date in the zip's directory, a space between JSON's tokens, true for 1: the content that is read is the same.
HARMLESS = {("logits-val.npz", "flipped"), ("checksums.json", "flipped"), ("checksums.json", "other_version")}


def look_at_everything(store: RunStore) -> Run:
    """What the list, Runs, Compare and the command line read of a run."""
    runs = store.runs(archived=True)
    by_merit(runs)
    (run,) = runs
    assert run.state in STATES
    for name in (
        "name",
        "recipe",
        "data_name",
        "fingerprint",
        "split_note",
        "remark",
        "created",
        "best",
        "last",
        "epoch_seconds",
        "progress",
        "seconds_left",
        "changes",
        "submission",
        "launched_by",
        "has_weights",
        "has_reports",
        "model",
        "reports",
    ):
        getattr(run, name)
    run.report()
    run.log_tail()
    for row in run.metrics:
        float(row["val_top1"])
    return run


@pytest.mark.parametrize("seed", range(10))
def test_mutations_are_named_and_crash_nobody(store, tiny, small, seed):
    """A hundred a seed. What reads well and differs is named by the checksums; status, notes, report and log have none."""
    shutil.copytree(small / "done", store.root / "done")
    rng, path = random.Random(seed), store.root / "done"
    store.annotate("done", name="A name", tags=["t"])
    (path / "train.log").write_text("epoch 1/3  lr 0.001\nfinished\n")
    whole = {name: (path / name).read_bytes() for name in FILES}
    silent = []
    for n in range(100):
        name, mutate = rng.choice(FILES), rng.choice(MUTATIONS)
        content = mutate(whole[name], rng, [whole[other] for other in FILES if other != name])
        if content == whole[name]:
            continue
        (path / name).write_bytes(content)
        run = look_at_everything(store)
        found = check_store(store)
        if not run.problems and not found:
            silent.append((name, mutate.__name__))
        if n % 10 == 0 and name == "best.safetensors":
            try:
                evaluate_run(store, "done")
            except FerError:
                pass  # which says what is wrong
            (path / "report.json").write_bytes(whole["report.json"])
            (path / "logits-val.npz").write_bytes(whole["logits-val.npz"])
        (path / name).write_bytes(whole[name])
        if n % 25 == 0:
            check_store_repairs_a_copy(store, path, name, content)
    unchecked = ("status.json", "notes.json", "report.json", "train.log")
    unnamed = [(name, kind) for name, kind in silent if name not in unchecked and (name, kind) not in HARMLESS]
    assert unnamed == []
    assert check_store(store) == []


def check_store_repairs_a_copy(store: RunStore, path: Path, name: str, content: bytes) -> None:
    copy = RunStore(store.root.parent / "copy")
    shutil.copytree(path, copy.root / "done")
    (copy.root / "done" / name).write_bytes(content)
    for finding in check_store(copy, repair=True):
        assert finding.mended or finding.mend is None, str(finding)
    for run in copy.runs(archived=True):
        assert run.state in STATES
    shutil.rmtree(copy.root)
