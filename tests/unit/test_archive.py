"""A run as a zip: what is packed comes back as it was, and a hostile or damaged zip leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fer.archive import FILES, pack, take_in
from fer.cli import main
from fer.errors import RunError
from fer.runs import RunStore, hold
from fer.train import fit


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
