"""A run as a zip: what is packed comes back as it was, and a hostile or damaged zip leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fer.archive import FILES, pack, take_in
from fer.cli import main
from fer.errors import RunError
from fer.files import sha256
from fer.repair import write_checksums
from fer.runs import RunStore, hold
from fer.train import fit
from tests.made_runs import write_run


@pytest.fixture
def packed(store, finished_run, tmp_path) -> Path:
    store.annotate("done", name="A good one", tags=["keep"])
    pack(store, ["done", "done"], tmp_path / "out" / "done.zip")
    return tmp_path / "out" / "done.zip"


@pytest.fixture
def elsewhere(tmp_path) -> RunStore:
    return RunStore(tmp_path / "elsewhere")


def rewritten(source: Path, target: Path, changes: dict[str, bytes | None]) -> Path:
    """A copy of the zip with these entries replaced, added or (None) left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if info.filename not in changes:
                new.writestr(info.filename, old.read(info))
        for name, content in changes.items():
            if content is not None:
                new.writestr(name, content)
    return target


def test_a_run_travels_with_all_but_its_pickle(packed, elsewhere, finished_run):
    assert take_in(elsewhere, packed) == ["done"]
    run = elsewhere.get("done")
    assert (run.config, list(run.metrics), run.report()) == (
        finished_run.config,
        list(finished_run.metrics),
        finished_run.report(),
    )
    assert (run.state, run.name, run.notes.tags, run.problems) == ("finished", "A good one", ("keep",), ())
    assert "resume.pt" not in os.listdir(run.path)
    for name in ("best.safetensors", "logits-val.npz", "model.json"):
        assert (run.path / name).read_bytes() == (finished_run.path / name).read_bytes()
    assert set(os.listdir(run.path)) <= set(FILES)


def test_an_archived_run_comes_into_view_where_it_is_imported(store, finished_run, elsewhere, tmp_path):
    store.annotate("done", name="Mine", tags=["keep"], archived=True)
    pack(store, ["done"], tmp_path / "x.zip")
    take_in(elsewhere, tmp_path / "x.zip")
    (run,) = elsewhere.runs()
    assert (run.name, run.notes.tags, run.notes.archived) == ("Mine", ("keep",), False)
    assert store.get("done").notes.archived


@pytest.mark.parametrize("year_seconds", [0, 5e9])
def test_files_of_a_year_that_a_zip_does_not_know_are_packed(store, finished_run, elsewhere, tmp_path, year_seconds):
    os.utime(finished_run.path / "model.json", (year_seconds, year_seconds))
    pack(store, ["done"], tmp_path / "x.zip")
    assert take_in(elsewhere, tmp_path / "x.zip") == ["done"]


def test_an_id_that_is_taken_gets_a_new_one(packed, store):
    (new,) = take_in(store, packed)
    assert new.startswith("done-")
    assert sorted(store.ids()) == sorted(["done", new])


def test_a_run_that_had_not_ended_arrives_as_stopped_and_can_be_trained(
    store, make_run, elsewhere, tmp_path, monkeypatch
):
    make_run("live", train__epochs=1)
    cluster = {"address": "http://elsewhere:8265", "job": "a", "cpus": 2, "gpus": 0, "memory_gib": 2}
    store.write_status("live", {"state": "running", "worker": "there", "ray": cluster})
    with hold(store.root / "live" / "run.lock"):
        pack(store, ["live"], tmp_path / "live.zip")
    take_in(elsewhere, tmp_path / "live.zip")
    run = elsewhere.get("live")
    assert (run.state, run.status.get("worker"), run.on_ray) == (
        "stopped",
        None,
        None,
    )  # a zip names no address to talk to
    elsewhere.requeue("live")
    assert fit(elsewhere, "live").state == "finished"


def made_ensemble(store: RunStore, **changes) -> None:
    """`both` of `one` and `two`, which have weights of a byte; no network is needed to be packed."""
    for run_id, seconds in (("one", 10.0), ("two", 30.0)):
        model = {"num_params": 5, "multiply_adds": 7}
        write_run(store, run_id, [{"epoch_seconds": seconds}], model=model)
    row = {"name": "one", "kind": "Network", "detail": "baseline", "num_params": 5, "multiply_adds": 7}
    layers = [row, {**row, "name": "two"}]
    write_run(
        store, "both", [{"epoch_seconds": 40.0}], members=["one", "two"], model={"num_params": 10, "layers": layers}
    )


def test_an_ensemble_names_its_members_by_their_ids_here(store, elsewhere, tmp_path):
    made_ensemble(store)
    pack(store, ["both", "one", "two"], tmp_path / "x.zip")
    write_run(elsewhere, "one", [{"val_top1": 0.1}])
    both, one, two = take_in(elsewhere, tmp_path / "x.zip")
    assert both == "both" and one.startswith("one-") and two == "two"
    run = elsewhere.get("both")
    assert run.members == (one, "two") and not run.problems
    assert [layer["name"] for layer in run.model["layers"]] == [one, "two"] and run.model["num_params"] == 10
    assert elsewhere.get("one").best["val_top1"] == 0.1


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"fingerprint": "0" * 32}, "it was trained on other data"),
        ({"model": {"num_params": 6, "multiply_adds": 7}}, "it has another network"),
        ({"model__name": "grouped-conv"}, "it has another network"),
        ({"seconds": 11.0}, "it was trained at another time"),
    ],
)
def test_an_ensemble_is_not_given_another_run_for_its_member(store, elsewhere, tmp_path, other, said):
    made_ensemble(store)
    pack(store, ["both", "two"], tmp_path / "x.zip")
    same = {"model": {"num_params": 5, "multiply_adds": 7}}
    write_run(elsewhere, "one", [{"epoch_seconds": other.pop("seconds", 10.0)}], **{**same, **other})
    with pytest.raises(
        RunError, match=rf"'both' in the zip answers with a run 'one', which .* another: {said}\. Export"
    ):
        take_in(elsewhere, tmp_path / "x.zip")
    assert elsewhere.ids() == ["one"]
    elsewhere.delete("one")
    write_run(elsewhere, "one", [{"epoch_seconds": 10.0}], **same)
    assert take_in(elsewhere, tmp_path / "x.zip") == ["both", "two"]
    assert elsewhere.get("both").members == ("one", "two")


def test_an_ensemble_that_names_the_weights_of_its_members_takes_no_other_run(store, elsewhere, tmp_path):
    made_ensemble(store)
    for run_id in ("one", "two"):
        (store.root / run_id / "best.safetensors").write_bytes(run_id.encode())
    path = store.root / "both" / "model.json"
    model = json.loads(path.read_text())
    for layer in model["layers"]:
        layer["weights"] = sha256(store.root / layer["name"] / "best.safetensors")
    path.write_text(json.dumps(model))
    pack(store, ["both"], tmp_path / "x.zip")
    for run_id in ("one", "two"):  # of members that began elsewhere, so that the seconds do not say it
        write_run(elsewhere, run_id, [{"epoch_seconds": 1.0}], model={"num_params": 5, "multiply_adds": 7})
        shutil.copy(store.root / run_id / "best.safetensors", elsewhere.root / run_id)
    (elsewhere.root / "two" / "best.safetensors").write_bytes(b"else")
    with pytest.raises(RunError, match="answers with a run 'two', which .* another: it has other weights"):
        take_in(elsewhere, tmp_path / "x.zip")
    shutil.copy(store.root / "two" / "best.safetensors", elsewhere.root / "two")
    assert take_in(elsewhere, tmp_path / "x.zip") == ["both"]
    assert elsewhere.get("both").made_of and elsewhere.get("both").changed_members() == []


def begun_from(store: RunStore, origin: str, run_id: str, *, sha: str | None = None, rows=({},), **more) -> None:
    """A run that began from another; sha: what the weights hashed to that it began from, None: it has yet to begin."""
    write_run(store, run_id, rows, model__from_run=origin, **more)
    path = store.root / run_id
    record = json.loads((path / "config.json").read_text())
    record["data"]["start_note"] = f"It began from run '{origin}', which learned from '{origin}'."
    record["data"]["learned_from"] = [{"run": origin, "data": origin}, {"run": "gone", "data": "x"}]
    (path / "config.json").write_text(json.dumps(record))
    if sha:
        status = json.loads((path / "status.json").read_text())
        status["first_weights"] = {"run": origin, "file": "best.safetensors", "sha256": sha}
        (path / "status.json").write_text(json.dumps(status))
        write_checksums(path)


def test_a_run_names_the_one_that_it_began_from_by_its_id_here(store, elsewhere, tmp_path):
    write_run(store, "mine", [{}])
    begun_from(store, "mine", "a-child", sha="0" * 64)
    begun_from(store, "a-child", "a-grandchild", rows=(), state="queued")
    pack(store, store.ids(), tmp_path / "x.zip")
    for run_id in ("mine", "a-child"):
        write_run(elsewhere, run_id, [{}])
    child, grandchild, mine = take_in(elsewhere, tmp_path / "x.zip")
    assert child.startswith("a-child-") and grandchild == "a-grandchild" and mine.startswith("mine-")
    run = elsewhere.get(child)
    assert run.config.model.from_run == mine == run.status["first_weights"]["run"]
    assert run.start_note == f"It began from run '{mine}', which learned from 'mine'."
    assert run.record["data"]["learned_from"] == [{"run": mine, "data": "mine"}, {"run": "gone", "data": "x"}]
    assert not run.problems and not (run.path / "checksums.json").exists()
    assert elsewhere.get(grandchild).config.model.from_run == child
    assert elsewhere.get("a-child").config.model.from_run is None


def test_an_ensemble_names_what_its_members_began_from_by_the_ids_here(store, elsewhere, tmp_path):
    write_run(store, "mine", [{}])
    begun_from(store, "mine", "one", sha="0" * 64)
    write_run(store, "both", [{}], members=["one"])
    store.write_status("both", {"state": "finished", "origins": {"mine": True, "gone": False}})
    pack(store, store.ids(), tmp_path / "x.zip")
    write_run(elsewhere, "mine", [{}])
    _, mine, _ = take_in(elsewhere, tmp_path / "x.zip")
    assert elsewhere.get("both").status["origins"] == {mine: True, "gone": False}


def test_a_run_is_not_given_another_one_that_it_would_have_begun_from(store, elsewhere, tmp_path):
    run = write_run(store, "mine", [{}])
    (run.path / "best.safetensors").write_bytes(b"mine")
    begun_from(store, "mine", "child", sha=sha256(run.path / "best.safetensors"))
    pack(store, ["child"], tmp_path / "x.zip")
    other = write_run(elsewhere, "mine", [{}])
    (other.path / "best.safetensors").write_bytes(b"else")
    with pytest.raises(
        RunError, match=r"'child' in the zip began from a run 'mine', .* has other weights\. Export the two"
    ):
        take_in(elsewhere, tmp_path / "x.zip")
    assert elsewhere.ids() == ["mine"]
    (other.path / "best.safetensors").write_bytes(b"mine")
    assert take_in(elsewhere, tmp_path / "x.zip") == ["child"]
    assert elsewhere.get("child").config.model.from_run == "mine"


def test_of_a_run_that_has_yet_to_begin_it_is_said_that_the_other_may_be_another(store, elsewhere, tmp_path):
    begun_from(store, "mine", "todo", rows=(), state="queued")
    pack(store, ["todo"], tmp_path / "x.zip")
    write_run(elsewhere, "mine", [{}])
    take_in(elsewhere, tmp_path / "x.zip")
    assert (
        "would begin from the run 'mine' of this store, which may be another" in elsewhere.get("todo").status["error"]
    )


def test_runs_that_name_each_other_end_nowhere(store, elsewhere, tmp_path):
    begun_from(store, "b", "a", sha="0" * 64)
    begun_from(store, "a", "b", sha="0" * 64)
    pack(store, ["a", "b"], tmp_path / "x.zip")
    assert take_in(elsewhere, tmp_path / "x.zip") == ["a", "b"]


@pytest.mark.parametrize("state", ["stopped", "failed", "running"])
def test_the_epochs_of_an_imported_run_are_not_thrown_away_by_resuming_it(store, elsewhere, tmp_path, state):
    write_run(store, "half", [{}, {}], state=state, train__epochs=5)
    pack(store, ["half"], tmp_path / "x.zip")
    take_in(elsewhere, tmp_path / "x.zip")
    run = elsewhere.get("half")
    assert run.stayed_behind and run.state == ("failed" if state == "failed" else "stopped")
    assert ("What it needs to go on stayed there" in (run.status.get("error") or "")) == (state == "running")
    with pytest.raises(
        RunError, match="without what it needs to go on, so resuming would throw away its 2 epochs. Clone"
    ):
        elsewhere.requeue("half")
    assert len(elsewhere.get("half").metrics) == 2
    (run.path / "resume.pt").write_bytes(b"its own by now")
    assert elsewhere.requeue("half").state == "queued"


def test_a_torn_last_line_is_left_out_and_other_damage_is_refused_when_it_is_packed(store, elsewhere, tmp_path):
    run = write_run(store, "torn", [{}, {}, {}])
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    pack(store, ["torn"], tmp_path / "x.zip")
    assert take_in(elsewhere, tmp_path / "x.zip") == ["torn"]
    assert len(elsewhere.get("torn").metrics) == 2 and not elsewhere.get("torn").problems
    (run.path / "notes.json").write_text("{")
    with pytest.raises(
        RunError, match=r"'torn' is damaged and could not .*: notes.json is damaged.*runs check --repair"
    ):
        pack(store, ["torn"], tmp_path / "y.zip")
    assert not (tmp_path / "y.zip").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_packing_is_said_to_be_damage_of_the_zip(elsewhere, tmp_path, method):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", method) as archive:
        archive.writestr("a/config.json", np.random.default_rng(0).bytes(2000))
    content = bytearray((tmp_path / "bad.zip").read_bytes())
    begin = content.index(b"config.json") + len("config.json")
    content[begin + 4 : begin + 20] = b"\xff" * 16
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(RunError, match="^a/config.json in the zip is damaged or encrypted: .* Nothing was imported"):
        take_in(elsewhere, tmp_path / "bad.zip")
    assert os.listdir(elsewhere.root) == []


def test_a_folder_and_a_file_without_a_name_are_refused_in_a_sentence(elsewhere, tmp_path):
    with pytest.raises(RunError, match="is a folder. Give the zip that was made with: python -m fer runs export"):
        take_in(elsewhere, tmp_path)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("X/config.json", b"{}")
    content = (tmp_path / "bad.zip").read_bytes()
    (tmp_path / "bad.zip").write_bytes(content.replace(b"X/config.json", b"\0/config.json"))
    with pytest.raises(RunError, match="does not lie in a run's folder"):
        take_in(elsewhere, tmp_path / "bad.zip")


def test_logits_that_unpack_to_far_more_are_refused_before_they_are_read(packed, elsewhere, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, logits=np.zeros(300_000), labels=np.zeros(1), hashes=np.zeros(1))
    bad = rewritten(packed, tmp_path / "bad.zip", {"done/logits-val.npz": buffer.getvalue()})
    monkeypatch.setattr("fer.archive.MAX_ARRAY_BYTES", 2**20)
    monkeypatch.setattr("numpy.load", lambda *_a, **_k: pytest.fail("it was read"))
    with pytest.raises(RunError, match=r"logits-val.npz in the zip would unpack to 2 MB. At most 1 MB"):
        take_in(elsewhere, bad)


def test_notes_that_are_no_text_are_none(store):
    run = write_run(store, "odd", [{}])
    record = json.loads((run.path / "config.json").read_text())
    record["remark"] = record["data"]["split_note"] = record["data"]["start_note"] = 5
    (run.path / "config.json").write_text(json.dumps(record))
    run = store.get("odd")
    assert (run.split_note, run.start_note, run.remark) == (None, None, None)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("../evil", "does not lie in a run's folder"),
        ("done/../../evil", "does not lie in a run's folder"),
        ("/etc/evil", "does not lie in a run's folder"),
        ("done\\..\\evil", "does not lie in a run's folder"),
        ("config.json", "does not lie in a run's folder"),
        ("done/deeper/config.json", "does not lie in a run's folder"),
        (".trash/config.json", "does not lie in a run's folder"),
        ("done/resume.pt", "no part of a run. It may hold code"),
        ("done/evil.py", "no part of a run"),
        ("done/..", "does not lie in a run's folder"),
    ],
)  # fmt: skip
def test_what_lies_outside_of_a_run_or_may_be_code_is_refused_and_nothing_is_left(
    packed, elsewhere, tmp_path, entry, said
):
    bad = rewritten(packed, tmp_path / "bad.zip", {entry: b"x"})
    before = sorted(p for p in tmp_path.rglob("*") if p.name != "elsewhere")
    with pytest.raises(RunError, match=said):
        take_in(elsewhere, bad)
    assert elsewhere.ids() == []
    assert not elsewhere.root.exists() or os.listdir(elsewhere.root) == []
    assert sorted(p for p in tmp_path.rglob("*") if p.name != "elsewhere") == before


def test_a_link_out_of_the_folder_is_refused(packed, elsewhere, tmp_path):
    bad = rewritten(packed, tmp_path / "bad.zip", {"done/train.log": None})
    with zipfile.ZipFile(bad, "a") as archive:
        link = zipfile.ZipInfo("done/train.log")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(RunError, match="does not lie in a run's folder"):
        take_in(elsewhere, bad)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_arrays_that_hold_a_pickle_are_refused_and_never_opened(packed, elsewhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    np.savez(buffer, logits=np.array([Evil()], dtype=object))
    assert pickle.dumps(Evil())
    bad = rewritten(packed, tmp_path / "bad.zip", {"done/logits-val.npz": buffer.getvalue()})
    with pytest.raises(RunError, match=r"done/logits-val\.npz in the zip is damaged or holds code"):
        take_in(elsewhere, bad)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b"{", "config.json is damaged"),
        ("config.json", None, "config.json is missing"),
        ("config.json", json.dumps({"schema": 99, "data": {}}).encode(), "newer FER Lab"),
        ("metrics.jsonl", b'{"epoch": 1', "torn last line"),
        ("status.json", b"[]", "status.json is missing or damaged"),
        ("status.json", b'{"state": "finished", "epoch": 1e999}', "a number that is too large"),
        ("best.safetensors", b"\x80\x04evil", "best.safetensors in the zip is damaged"),
        ("report.json", b"[1]", "report.json in the zip is damaged"),
    ],
)
def test_a_damaged_run_is_named_and_not_imported(packed, elsewhere, tmp_path, name, content, said):
    bad = rewritten(packed, tmp_path / "bad.zip", {f"done/{name}": content})
    with pytest.raises(RunError, match=said):
        take_in(elsewhere, bad)
    assert os.listdir(elsewhere.root) == []


def test_what_is_no_zip_empty_or_a_bomb_is_refused(elsewhere, tmp_path, monkeypatch):
    (tmp_path / "no.zip").write_bytes(b"text")
    with pytest.raises(RunError, match="is not a zip"):
        take_in(elsewhere, tmp_path / "no.zip")
    with pytest.raises(RunError, match="There is no file"):
        take_in(elsewhere, tmp_path / "gone.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(RunError, match="holds no run"):
        take_in(elsewhere, tmp_path / "empty.zip")
    monkeypatch.setattr("fer.archive.MAX_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/train.log", bytes(2 * 10**6))
    with pytest.raises(RunError, match="At most 4 GB"):
        take_in(elsewhere, tmp_path / "bomb.zip")


def test_from_the_command_line(store, finished_run, tmp_path, capsys):
    out = tmp_path / "x.zip"
    assert main(["runs", "export", "done", "--to", "zip", "--out", str(out)]) == 0
    assert main(["runs", "delete", "done", "--yes"]) == 0
    assert main(["runs", "import", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 2)[2])["runs"] == ["done"]
    assert main(["runs", "check"]) == 0
    assert main(["runs", "trash", "list"]) == main(["runs", "trash", "restore", "done"]) == 0
    assert len(store.ids()) == 2
    assert main(["runs", "trash", "empty"]) == 2
    assert main(["runs", "export", "gone", "--to", "zip", "--out", str(out)]) == 2
