"""Finding what is broken in a run store, and mending what can be mended without guessing.

Nothing here throws away what could still be of use: a damaged file is put aside as `<name>.damaged`, a folder that is no run
goes to the trash. Runs that train are left alone, and so are those that came with the project.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fer.config import Config, read_config, with_settings
from fer.data.dataset import Dataset, load, prepared
from fer.errors import DataError, FerError, RunError
from fer.files import ZIP_ERRORS, write_json_atomic
from fer.jobs import adoptable
from fer.origins import safetensors_header
from fer.recipes import RECIPES
from fer.runs import SCHEMA, Run, RunStore, hold, is_locked

WEIGHTS = ("best.safetensors", "last.safetensors")
LASTING = ("config.json", "model.json", "metrics.jsonl", "resume.pt", *WEIGHTS)
CHECKSUMS = "checksums.json"
RECORDED = (
    "recipe",
    "data",
    "created",
    "submission",
)  # of a run's record in its weights' header; an address stays out of it
_OLD_SECONDS = 3600.0  # a draft or a half-deleted folder of this age has nobody who still works on it
_ZIP_END = b"PK\5\6" + bytes(18)


@dataclass(frozen=True)
class Finding:
    """Something broken. run: '' for the store itself; cure: what mending does, or what to do where it cannot be mended."""

    run: str
    file: str
    what: str
    cure: str
    mend: Callable[[], None] | None = None
    mended: bool = False

    def __str__(self) -> str:
        where = f"{self.run}/{self.file}" if self.run else self.file
        return f"{where}: {self.what}. {'Mended: ' if self.mended else ''}{self.cure}."


def check_store(store: RunStore, *, repair: bool = False) -> list[Finding]:
    """All that is broken in the store; with `repair`, mended where it can be. Raises RunError where it cannot be read."""
    found: list[Finding] = []
    for run_id in store.ids():
        if is_locked(store.root / run_id / "run.lock"):
            continue
        run, findings = _looked_at(store, run_id)
        if run is None:
            continue
        found += [_mended(store, run, f) for f in findings] if repair and not run.shipped else findings
    for finding in _of_store(store):
        found.append(_mended(store, None, finding) if repair else finding)
    return found


def _looked_at(store: RunStore, run_id: str) -> tuple[Run | None, list[Finding]]:
    """The run and what is broken in it; no run where it trains elsewhere or is deleted meanwhile."""
    try:
        run = store.get(run_id)
        if run.on_ray and run.state in ("running", "stopping"):  # its lock need not be seen from here
            return None, []
        findings = list(_of_run(store, run))
    except (RunError, FileNotFoundError):
        if store.folder(run_id).is_dir():
            raise
        return None, []
    return (run, findings) if run.path.is_dir() else (None, [])


def _mended(store: RunStore, run: Run | None, finding: Finding) -> Finding:
    if finding.mend is None:
        return finding
    try:
        if run is None or not (run.path / "config.json").exists():
            finding.mend()
        else:
            with hold(run.path / "run.lock", timeout=0.2):
                finding.mend()
    except (OSError, FerError) as error:
        return replace(finding, cure=f"it could not be mended: {error}")
    return replace(finding, mended=True)


# --- one run -------------------------------------------------------------------------------------------------------


def _of_run(store: RunStore, run: Run) -> Iterator[Finding]:
    if not any((run.path / name).exists() for name in ("config.json", *WEIGHTS, "metrics.jsonl")):
        yield Finding(run.id, "", "the folder holds no run", "it goes to the trash", lambda: _to_trash(store, run.path))
        return
    seen = [*_record(run), *_notes(run), *_metrics(store, run), *_status(store, run), *_weights(run), *_made_again(run)]
    yield from seen
    yield from _differing(run, {f.file for f in seen})
    yield from _leftovers(run)


def _record(run: Run) -> Iterator[Finding]:
    if run.config is not None:
        return
    problem = next((p for p in run.problems if "config" in p or "newer" in p), "config.json cannot be used")
    if "newer" in problem:
        yield Finding(run.id, "config.json", problem, "update FER Lab to use the run")
        return
    found = next((f for name in WEIGHTS if (f := _record_of_weights(run, run.path / name))), None)
    if found is None:
        yield Finding(
            run.id,
            "config.json",
            problem,
            "there are no weights with settings to take it from: copy it from a backup, or delete the run",
        )
    else:
        record, lost = found
        yield Finding(
            run.id, "config.json", problem,
            f"the settings are written again as the weights' header has them; not known any more: {', '.join(lost)}",
            lambda: (_put_aside(run.path / "config.json"), write_json_atomic(run.path / "config.json", record)),
        )  # fmt: skip


def _notes(run: Run) -> Iterator[Finding]:
    if "notes.json is damaged" in run.problems:
        path = run.path / "notes.json"
        yield Finding(
            run.id, "notes.json", "it is damaged", "put aside; name and tags begin empty", lambda: _put_aside(path)
        )


def _metrics(store: RunStore, run: Run) -> Iterator[Finding]:
    rows, damaged = store.read_metrics(run.id)
    if damaged:
        yield Finding(
            run.id, "metrics.jsonl", damaged, f"the {len(rows)} whole epochs are kept",
            lambda: (shutil.copy2(run.path / "metrics.jsonl", run.path / "metrics.jsonl.damaged"), store.write_metrics(run.id, rows)),
        )  # fmt: skip


def _status(store: RunStore, run: Run) -> Iterator[Finding]:
    if "status.json is missing or damaged" in run.problems or (run.config and run.state == "broken"):
        whole = bool(run.config) and bool(run.metrics) and len(run.metrics) >= run.epochs
        state = "finished" if whole else "failed"
        error = None if whole else "Its status was lost. Resume goes on from the last save."
        yield _new_status(store, run, "it is missing or damaged", state, error)
    elif run.state == "lost" and run.on_ray:
        cure = "the worker asks the cluster again; where that answers no more, resume the run here"
        yield Finding(run.id, "status.json", "it says running, and nothing is heard of it", cure)
    elif run.state == "lost" and adoptable([run]):
        yield Finding(run.id, "status.json", "it says running, and nobody trains it", "the worker queues it again")
    elif run.state == "lost":
        again = "Delete it, and make it again" if run.members else "Resume goes on from the last save"
        error = f"Its process went without a word. {again}."
        yield _new_status(store, run, "it says running, and nobody trains it", "failed", error)


def _new_status(store: RunStore, run: Run, what: str, state: str, error: str | None) -> Finding:
    status = {**run.status, "state": state, "error": error, "finished": time.time()}
    return Finding(
        run.id, "status.json", what, f"the run is called {state}", lambda: store.write_status(run.id, status)
    )


def _weights(run: Run) -> Iterator[Finding]:
    for name in WEIGHTS:
        path = run.path / name
        if path.exists() and safetensors_header(path) is None:
            yield Finding(
                run.id,
                name,
                "it is damaged",
                "put aside; resume or clone the run to get weights again",
                lambda path=path: _put_aside(path),
            )
    if run.members:
        gone = [m for m in run.members if not (run.path.parent / m / "best.safetensors").exists()]
        if gone:
            yield Finding(
                run.id,
                "config.json",
                f"it names members without weights here: {', '.join(gone)}",
                "bring them back from the trash or a backup, or delete the ensemble",
            )
        if changed := run.changed_members():
            yield Finding(
                run.id,
                "config.json",
                f"it was made of other weights than these members now have: {', '.join(changed)}",
                "make the ensemble again",
            )
    elif run.metrics and not run.record.get("without_weights") and not (run.path / "best.safetensors").exists():
        last = run.path / "last.safetensors"
        usable = run.best is run.last or (run.best and run.last and run.best["epoch"] == run.last["epoch"])
        if usable and safetensors_header(last) is not None:
            yield Finding(
                run.id,
                "best.safetensors",
                "it is missing",
                "the last epoch was the best: its weights are copied",
                lambda: _copy(last, run.path / "best.safetensors"),
            )
        else:
            yield Finding(run.id, "best.safetensors", "it is missing", "resume the run, or clone it to train it again")


def _made_again(run: Run) -> Iterator[Finding]:
    """Files that their writer can make again."""
    cures = {"resume.pt": "put aside; a resumed run begins from its start"}
    cures |= {p.name: "put aside; evaluate makes it again" for p in sorted(run.path.glob("logits-*.npz"))}
    for name, cure in cures.items():
        path = run.path / name
        if path.exists() and not _is_whole_zip(path):
            yield Finding(run.id, name, "it is damaged", cure, lambda path=path: _put_aside(path))
    for name in ("report.json", "report-local.json", "model.json"):
        path = run.path / name
        if path.exists() and not _is_object(path):
            yield Finding(
                run.id,
                name,
                "it is damaged",
                "put aside; evaluate or resume makes it again",
                lambda path=path: _put_aside(path),
            )


def _leftovers(run: Run) -> Iterator[Finding]:
    for path in sorted(run.path.glob(".*.tmp")):
        yield Finding(run.id, path.name, "left over from a save that was cut off", "deleted", path.unlink)
    stale = [
        run.path / ".reserve",
        *([run.path / "stop"] if run.state not in ("queued", "running", "stopping") else []),
    ]
    for path in stale:
        if path.exists():
            yield Finding(run.id, path.name, "left over from a process that is gone", "deleted", path.unlink)


# --- the store itself ----------------------------------------------------------------------------------------------


def _of_store(store: RunStore) -> Iterator[Finding]:
    try:
        entries = sorted(os.scandir(store.root), key=lambda e: e.name)
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_SECONDS
        except FileNotFoundError:  # a draft that has just become a run
            continue
        if entry.is_dir() and entry.name.startswith((".new-", ".deleted-")) and old:
            yield Finding(
                "",
                entry.name,
                "left over from a run that was being made or deleted",
                "deleted",
                lambda path=entry.path: shutil.rmtree(path),
            )
    if (store.root / "shipped.json").exists() and not isinstance(_json(store.root / "shipped.json"), list):
        yield Finding(
            "", "shipped.json", "it is damaged", "take it again from the project: git checkout checkpoints/shipped.json"
        )


# --- checksums -----------------------------------------------------------------------------------------------------


def write_checksums(folder: Path) -> None:
    """Keep beside a finished run what its lasting files hash to, so that a damage that still reads well is seen too."""
    sums = {name: _checksum(folder / name) for name in LASTING if (folder / name).exists()}
    write_json_atomic(folder / CHECKSUMS, {"schema": SCHEMA, "blake2b": sums})


def _differing(run: Run, known: set[str]) -> Iterator[Finding]:
    """Files that are not what the trainer wrote, but for those whose damage is known; silent where there are no checksums."""
    if not (run.path / CHECKSUMS).exists():
        return
    content = _json(run.path / CHECKSUMS)
    sums = content.get("blake2b") if isinstance(content, dict) else None
    there = {name for name in LASTING if (run.path / name).exists()}
    if not isinstance(sums, dict) or content.get("schema") != SCHEMA or not there <= set(sums) <= set(LASTING):
        yield Finding(run.id, CHECKSUMS, "it is damaged", "put aside", lambda: _put_aside(run.path / CHECKSUMS))
        return
    for name, wanted in sums.items():
        if name in there - known and _checksum(run.path / name) != wanted:
            yield Finding(
                run.id, name, "it is not what the trainer wrote",
                "its figures may be wrong: copy it from a backup, or clone the run and train it again",
            )  # fmt: skip


def _checksum(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


# --- files ---------------------------------------------------------------------------------------------------------


def _record_of_weights(run: Run, path: Path) -> tuple[dict[str, Any], list[str]] | None:
    """A run's record made of what its weights' header says, and which facts of it are lost, in words; None without a header.

    Headers of before hold settings and data alone; the rest is then taken from reports, status, data set and id.
    """
    try:
        head = (safetensors_header(path) or {})["__metadata__"]
        extra, content = json.loads(head["extra"]), json.loads(head["config"])
        data = {"fingerprint": str(extra["fingerprint"]), "synthetic": bool(extra["synthetic"])}
        config = read_config(content)
        created = path.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError, FerError):
        return None
    first = run.status.get("first_weights")
    if config.model.from_run and isinstance(first, dict) and isinstance(first.get("run"), str):
        content["model"]["from_run"] = first["run"]  # its id here, where the run was imported
    kept, lost = extra.get("record"), ["who launched it"]
    if not isinstance(kept, dict):
        facts, lost_facts = _data_facts(run, config, data)
        recipe = _recipe_of(config, str(extra.get("run")))
        lost += [*lost_facts, *["its recipe"] * (recipe is None), "what it was launched together with"]
        times = [run.status.get("queued"), run.status.get("started"), created]
        kept = {
            "recipe": recipe,
            "data": facts,
            "created": min(t for t in times if isinstance(t, int | float) and t > 0),
        }
    return {"schema": SCHEMA, "kind": "run", **kept, "experiment": config.experiment, "config": content}, lost


def _data_facts(run: Run, config: Config, data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the record says of the data, and which facts of it are lost, in words."""
    lost, here = [], _data_here(config, data["fingerprint"])
    reports = [r for r in run.reports.get(data["fingerprint"], {}).values() if isinstance(r, dict)]
    if here:
        data |= {"fer2013": here.fer2013, "split_note": here.split_note}
    else:
        data["split_note"] = next((r["split_note"] for r in reports if r.get("split_note")), None)
        lost += [] if reports or config.data.val_fraction else ["a note on its splits"]
        lost += [] if data["synthetic"] or config.data.name == "fer2013" else ["whether its pictures are FER2013's"]
    return data, lost + ["a note on the run that it began from"] * bool(config.model.from_run)


def _data_here(config: Config, fingerprint: str) -> Dataset | None:
    """The data set that the run was trained on, where it is prepared here."""
    if config.data.name in prepared():
        with contextlib.suppress(DataError):
            data = load(config.data.name).with_val_fraction(config.data.val_fraction)
            return data if data.fingerprint == fingerprint else None
    return None


def _recipe_of(config: Config, run_id: str) -> str | None:
    """The recipe that an id given by the store names, else the one that has these settings."""
    named = re.fullmatch(rf"(.+)-s{config.seed}-[0-9a-f]{{4}}", run_id)
    if named and named[1] in RECIPES:
        return named[1]
    same = {"data.name": config.data.name, "data.val_fraction": config.data.val_fraction}
    for name, recipe in RECIPES.items():
        with contextlib.suppress(FerError):
            if with_settings(recipe.config(), same).experiment == config.experiment:
                return name
    return None


def _is_whole_zip(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(-len(_ZIP_END), os.SEEK_END)
            if not file.read().startswith(_ZIP_END[:4]):
                return False  # cut off, or something was written behind its end
        with zipfile.ZipFile(path) as archive:
            if path.suffix == ".npz" and sorted(archive.namelist()) != ["hashes.npy", "labels.npy", "logits.npy"]:
                return False
            return archive.testzip() is None
    except (*ZIP_ERRORS, OSError):
        return False


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _is_object(path: Path) -> bool:
    return isinstance(_json(path), dict)


def _put_aside(path: Path) -> None:
    if path.exists():
        os.replace(path, path.with_name(f"{path.name}.damaged"))


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.copy.tmp")
    shutil.copyfile(source, draft)
    os.replace(draft, target)


def _to_trash(store: RunStore, path: Path) -> None:
    try:
        store.delete(path.name)
    except RunError as error:
        raise OSError(str(error)) from error
