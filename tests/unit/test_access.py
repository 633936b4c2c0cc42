"""Read-only: every command and every change in the core is refused in one sentence, and nothing is created."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from fer import access, jobs
from fer.cli import main
from fer.config import Config
from fer.data import dataset
from fer.errors import NotAllowed, RunError
from fer.files import write_bytes_atomic
from fer.runs import RunStore, hold
from fer.train import fit


def tree(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}


@pytest.mark.parametrize(("value", "locked"), [("1", True), ("true", True), ("", False), ("0", False), ("no", False)])
def test_the_switch(monkeypatch, value, locked):
    monkeypatch.setenv("FER_READ_ONLY", value)
    assert (access.read_only(), access.may_change()) == (locked, not locked)


COMMANDS = [
    ["train", "--dataset", "tiny"],
    ["train", "--dataset", "tiny", "--queue"],
    ["train", "--dataset", "tiny", "--seeds", "3"],
    ["train", "--dataset", "tiny", "--on", "ray"],
    ["ensemble", "done", "waits"],
    ["worker"],
    ["queue", "pause"],
    ["queue", "resume"],
    ["queue", "next", "waits"],
    ["runs", "start", "waits"],
    ["runs", "stop", "waits"],
    ["runs", "stop", "waits", "--together"],
    ["runs", "resume", "done"],
    ["runs", "rename", "done", "x"],
    ["runs", "archive", "done"],
    ["runs", "note", "done", "--pin"],
    ["runs", "delete", "done", "--yes"],
    ["runs", "trash", "restore", "gone"],
    ["runs", "trash", "empty", "--yes"],
    ["runs", "check", "--repair"],
    ["runs", "import", "x.zip"],
    ["runs", "export", "done", "--to", "csv", "--out", "runs/done"],
    ["runs", "export", "done", "--to", "zip", "--out", "data/x.zip"],
    ["runs", "card", "done", "--out", "runs/done/config.json"],
    ["predict", "face.png", "--run", "done", "--csv", "runs/shipped.json"],
    ["predict", "face.png", "--run", "done", "--annotate", "data/boxes"],
    ["compare", "done", "--html", "runs/../runs/done/report.json"],
    ["data", "import", "x.zip", "--name", "new"],
    ["data", "kaggle"],
    ["data", "delete", "tiny", "--yes"],
]


def test_every_command_that_changes_something_is_refused_and_creates_nothing(
    store, finished_run, make_run, tmp_path, monkeypatch, capsys
):
    make_run("waits")
    make_run("gone")
    store.delete("gone")
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda *_a, **_k: pytest.fail("a process was started"))
    monkeypatch.setenv("FER_READ_ONLY", "1")
    monkeypatch.chdir(tmp_path)
    Image.new("L", (48, 48)).save("face.png")
    before = tree(tmp_path)
    for words in COMMANDS:
        assert main(words) == 2, words
        said = capsys.readouterr()
        assert said.out == "", words
        assert "is refused: FER_READ_ONLY is set" in said.err, (words, said.err)
        assert said.err.count("\n") == 1, words
    assert tree(tmp_path) == before


def test_the_list_of_refused_commands_is_whole():
    """A command that is added is either looked at here or said to only look."""
    from fer import cli

    looking = {
        "recipes", "cost", "evaluate", "predict", "version", "runs list", "runs show", "runs check", "runs trash list",
        "queue list", "data show", "data list", "compare", "networks", "augment", "runs card", "runs export", "runs log",
    }  # fmt: skip

    def names(app, prefix: str = "") -> set[str]:
        own = {prefix + (c.name or c.callback.__name__.replace("_", "-")) for c in app.registered_commands}
        return own.union(*(names(g.typer_instance, f"{prefix}{g.name} ") for g in app.registered_groups))

    refused = {
        " ".join(w for w in words[:3] if w.isalpha() and w not in ("waits", "done", "tiny")) for words in COMMANDS
    }
    every = names(cli.app)
    assert {n for n in every if n not in looking and not any(r.startswith(n) for r in refused)} == set()


def test_looking_goes_on(store, finished_run, monkeypatch, capsys):
    monkeypatch.setenv("FER_READ_ONLY", "1")
    before = tree(store.root)
    for words in (
        ["runs", "list"],
        ["runs", "show", "done"],
        ["queue", "list"],
        ["recipes"],
        ["data", "list"],
        ["runs", "check"],
    ):
        assert main(words) == 0, words
    assert main(["evaluate", "done", "--json"]) == 0
    assert '"saved": false' in capsys.readouterr().out
    assert tree(store.root) == before


def test_files_of_ones_own_can_be_written_outside_of_store_and_data(store, finished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FER_READ_ONLY", "1")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    Image.new("L", (48, 48)).save("face.png")
    before = tree(store.root), tree(tmp_path / "data")
    for words, written in (
        (["predict", "face.png", "--csv", "faces.csv", "--annotate", "boxes"], ["faces.csv", "boxes"]),
        (["runs", "card", "done", "--out", "card.md"], ["card.md"]),
        (["augment", "--dataset", "tiny", "--out", "batch.png"], ["batch.png"]),
        (["compare", "done", "--html", "all.html", "--markdown", "all.md"], ["all.html", "all.md"]),
        (["runs", "export", "done", "--to", "csv"], ["fer-export"]),
        (["runs", "export", "done", "--to", "zip"], ["fer-export.zip"]),
    ):
        assert main(words) == 0, capsys.readouterr().err
        assert all((tmp_path / "mine" / name).exists() for name in written)
    assert (tree(store.root), tree(tmp_path / "data")) == before


def test_the_core_refuses_without_the_command_line(store, finished_run, make_run, tiny, monkeypatch, tmp_path):
    make_run("waits")
    monkeypatch.setenv("FER_READ_ONLY", "1")
    before = tree(tmp_path)
    for change in (
        lambda: store.create(Config(), recipe=None, data={}),
        lambda: store.annotate("done", pinned=True),
        lambda: store.delete("done"),
        lambda: store.request_stop("waits"),
        lambda: store.append_metrics("done", {}),
        lambda: store.write_status("done", {}),
        lambda: store.save_report("done", "f", "val", {}),
        lambda: jobs.submit(store, [(None, Config())]),
        lambda: jobs.ensure_worker(store),
        lambda: fit(store, "waits"),
        lambda: dataset.save(tiny),
        lambda: dataset.delete("tiny"),
        lambda: write_bytes_atomic(tmp_path / "x", b""),
        lambda: hold(tmp_path / "x.lock").__enter__(),
    ):
        with pytest.raises(NotAllowed, match="is refused: FER_READ_ONLY is set"):
            change()
    assert tree(tmp_path) == before


def test_the_sample_faces_are_drawn_and_not_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_READ_ONLY", "1")
    monkeypatch.setattr("fer.data.sample.draw_sample", lambda: dataset.Dataset("sample", *_few()))
    assert len(dataset.load("sample")) == 2
    assert os.listdir(tmp_path) == []


def _few():
    import numpy as np

    return np.zeros((2, 48, 48), np.uint8), np.zeros(2, np.int64), np.zeros(2, np.uint8), np.array(["a", "b"])


def test_a_gate_is_asked_too(monkeypatch):
    monkeypatch.setattr(access, "_GATES", [])
    access.add_gate(lambda: "")
    assert access.may_change()
    access.add_gate(lambda: "you may only look.")
    with pytest.raises(NotAllowed, match="^Launching is refused: you may only look"):
        access.require("launching")


@pytest.fixture
def ana(monkeypatch):
    """Ana acts in every thread, and may have three runs that wait or train."""
    monkeypatch.setattr(access, "_ASKED", [access.Visitor])
    access.add_visitor(lambda: access.Visitor("ana@school.example", runs_each=3))
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)


def test_who_launched_a_run_stands_in_its_record(store, ana, capsys, monkeypatch):
    (run,) = jobs.submit(store, [("baseline", Config())])
    assert run.launched_by == "ana@school.example"
    assert main(["runs", "show", run.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["launched_by"] == "ana@school.example"
    assert main(["runs", "show", run.id]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  launched by ana@school.example"
    monkeypatch.setattr(access, "_ASKED", [access.Visitor])
    other = store.create(Config(), recipe=None, data={})
    assert other.launched_by == ""
    assert "launched_by" not in other.record


def test_nobody_has_more_runs_at_once_than_their_share(store, ana):
    store.create(Config(), recipe=None, data={}, run_id="mine")
    with pytest.raises(
        RunError, match="^1 of your runs wait or train and 3 more would make 4; everybody may have 3 at"
    ):
        jobs.submit(store, [("baseline", Config())] * 3)
    assert store.ids() == ["mine"]
    assert len(jobs.submit(store, [("baseline", Config())] * 2)) == 2
    store.write_status("mine", {"state": "stopped"})
    (new,) = jobs.submit(store, [("baseline", Config())])
    with pytest.raises(RunError, match="^3 of your runs"):
        jobs.resume(store, "mine")
    assert store.get("mine").state == "stopped"
    store.write_status(new.id, {"state": "finished"})
    assert jobs.resume(store, "mine").state == "queued"


def test_what_others_wait_for_takes_nothing_of_ones_share(store, ana, monkeypatch):
    jobs.submit(store, [("baseline", Config())] * 3)
    monkeypatch.setattr(access, "_ASKED", [lambda: access.Visitor("ben@school.example", runs_each=3)])
    assert len(jobs.submit(store, [("baseline", Config())] * 3)) == 3
    monkeypatch.setattr(access, "_ASKED", [access.Visitor])
    assert len(jobs.submit(store, [("baseline", Config())] * 9)) == 9


def test_no_server_is_offered_to_the_network_unasked():
    import tomllib

    from fer.files import PROJECT_ROOT

    config = tomllib.loads((PROJECT_ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"].get("enableXsrfProtection", True) is True
    assert config["server"].get("enableCORS", True) is True


@pytest.mark.parametrize(
    "run_id", ["../x", "a/../b", "..", "/etc", "a\0b", "A", "", "x" * 81, "a..b", ".trash", "a\nb", "%2e%2e", "a\\b"]
)
def test_an_id_is_never_a_path(store, run_id):
    from fer.errors import RunError

    for use in (store.get, store.delete, store.folder, store.restore, lambda i: RunStore().annotate(i, pinned=True)):
        with pytest.raises(RunError):
            use(run_id)
