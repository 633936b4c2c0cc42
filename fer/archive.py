"""A run as a zip: packed here, taken in elsewhere after every file of it was looked at.

What is packed is what the run shows and can be asked about. `resume.pt` stays behind: it is a pickle, which a reader of other
people's files must not open, and a run goes on only on the machine that began it.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from fer import access
from fer.config import read_config
from fer.data.dataset import data_root
from fer.errors import RunError
from fer.files import ZIP_ERRORS, sha256, write_atomic, write_json_atomic
from fer.origins import safetensors_header
from fer.repair import CHECKSUMS
from fer.runs import ACTIVE, TTA, Run, RunStore, check_run_id, store_root, write_notes

FILES = (
    "config.json",
    "status.json",
    "model.json",
    "checksums.json",
    "metrics.jsonl",
    "notes.json",
    "train.log",
    "best.safetensors",
    "last.safetensors",
    "report.json",
    "report-local.json",
    "logits-train.npz",
    "logits-val.npz",
    "logits-test.npz",
    *(f"logits-{split}{TTA}.npz" for split in ("train", "val", "test")),
)
MAX_RUNS = 1000
MAX_BYTES = 4 * 2**30  # unpacked
MAX_ARRAY_BYTES = 256 * 2**20  # of one file of logits, which is packed once more
_ENTRY = re.compile(r"([a-z0-9][a-z0-9._-]{0,79})/([A-Za-z0-9._+-]+)")
_CHUNK = 2**20
_TORN = "metrics.jsonl: a torn last line left out"  # as `Run.problems` says it; the epochs before it are whole
_DAMAGE = (*ZIP_ERRORS, OSError)


def require_outside(path: Path) -> None:
    """Raises NotAllowed where the store or the data sets would be written into and nothing may be changed; read-only
    protects these, and no other place of the user's."""
    if any(path.resolve().is_relative_to(root.resolve()) for root in (store_root(), data_root())):
        access.require(f"writing {path.name}")


def pack(store: RunStore, run_ids: Sequence[str], path: Path) -> int:
    """Write these runs as one zip, one folder a run; atomic. Returns the number of files. Raises RunError."""
    runs = [store.get(run_id) for run_id in dict.fromkeys(run_ids)]
    for run in runs:
        if problems := [p for p in run.problems if p != _TORN]:
            raise RunError(
                f"Run '{run.id}' is damaged and could not be imported elsewhere: {'; '.join(problems)}. Leave it out, or try: python -m fer runs check --repair"
            )
    entries = [(f"{run.id}/{name}", run.path / name) for run in runs for name in FILES if (run.path / name).is_file()]

    def write(file: IO[bytes]) -> None:
        # A zip knows no year before 1980; a file of then is given that.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as archive:
            for name, source in entries:
                if source.name == "metrics.jsonl":  # its last line may be torn, or just being written
                    content = source.read_bytes()
                    archive.writestr(name, content[: content.rfind(b"\n") + 1], zipfile.ZIP_DEFLATED)
                else:
                    archive.write(source, name)

    require_outside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, write, outside=True)
    except OSError as error:
        raise RunError(
            f"The zip {path} could not be written: {error.strerror}. Choose another place with --out."
        ) from error
    return len(entries)


def take_in(store: RunStore, path: Path) -> list[str]:
    """Take the runs of a zip into the store, all or none; returns their ids here, new ones where an id is taken. An ensemble
    names its members, and a run the one that it began from, by their ids here.

    Raises RunError that names the file where one lies outside of a run's folder, is not part of a run, is damaged, holds
    a pickle, or where all of it would be larger than 4 GB, and where a run that one needs is not in the zip and another here.
    """
    with _opened(path) as archive:
        by_run = _entries(archive)
        drafts = {run_id: store.root / f".new-{secrets.token_hex(8)}" for run_id in by_run}
        try:
            with store.changing():
                runs = {}
                for run_id, members in by_run.items():
                    _unpack(archive, members, drafts[run_id])
                    runs[run_id] = _check(drafts[run_id], run_id)
                for run_id, run in runs.items():
                    _check_members(store, run_id, run, runs)
                    _check_origin(store, run_id, run, runs)
                names: dict[str, str] = {}
                for run_id in _needed_first(runs):
                    _rename_needed(runs[run_id], names)
                    names[run_id] = store.place(drafts[run_id], run_id)
                return [names[run_id] for run_id in by_run]
        finally:
            for draft in drafts.values():
                shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise RunError(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise RunError(
            f"{path} is a folder. Give the zip that was made with: python -m fer runs export RUN --to zip"
        ) from error
    except PermissionError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. Choose a zip that can be.") from error
    except _DAMAGE as error:
        raise RunError(
            f"{path.name} is not a zip, is damaged, or is encrypted: {error}. Export the runs again."
        ) from error
    with archive:
        yield archive


def _entries(archive: zipfile.ZipFile) -> dict[str, list[zipfile.ZipInfo]]:
    """`{run id: its files}`; every name and size is looked at before anything is unpacked."""
    by_run: dict[str, list[zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        if info.filename.endswith("/"):  # a name can be empty, which is_dir() does not expect
            continue
        match = _ENTRY.fullmatch(info.filename)
        if not match or ".." in info.filename or (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise RunError(
                f"The zip holds {info.filename[:120]!r}, which does not lie in a run's folder. Nothing was imported."
            )
        if match[2] not in FILES:
            hint = (
                " It may hold code, which is never imported."
                if match[2].endswith((".pt", ".pth", ".pkl", ".pickle", ".bin"))
                else ""
            )
            raise RunError(
                f"The zip holds {info.filename[:120]!r}, which is no part of a run.{hint} Nothing was imported."
            )
        by_run.setdefault(check_run_id(match[1]), []).append(info)
    total = sum(info.file_size for infos in by_run.values() for info in infos)
    if total > MAX_BYTES or len(by_run) > MAX_RUNS:
        raise RunError(
            f"The zip would unpack to {total / 2**30:.1f} GB in {len(by_run):,} runs. At most 4 GB and {MAX_RUNS:,} runs are imported at once."
        )
    if not by_run:
        raise RunError("The zip holds no run. Make one with: python -m fer runs export RUN --to zip")
    return by_run


def _unpack(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    folder.mkdir(parents=True)
    for info in members:
        target = folder / info.filename.partition("/")[2]
        if target.exists():
            raise RunError(f"The zip holds {info.filename!r} twice. Nothing was imported.")
        with open(target, "wb") as file:
            left = info.file_size
            for chunk in _content(archive, info):
                left -= len(chunk)
                if left < 0:
                    raise RunError(f"{info.filename!r} in the zip is larger than it says. Nothing was imported.")
                file.write(chunk)


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """A file's content, a piece at a time; what is wrong with reading it is told from what is wrong with writing it."""
    try:
        with archive.open(info) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except _DAMAGE as error:
        raise RunError(
            f"{info.filename} in the zip is damaged or encrypted: {error}. Export the runs again. Nothing was imported."
        ) from error


def _check(folder: Path, run_id: str) -> Run:
    """The run in the folder if it is whole; its status is made one of a run that nobody trains, and an archived one comes
    into view."""
    run = RunStore(folder.parent).read_folder(folder)
    if run.config is None or run.problems:
        raise RunError(f"Run '{run_id}' in the zip cannot be used: {'; '.join(run.problems)}. Nothing was imported.")
    try:
        json.dumps([run.record, run.status, run.model], allow_nan=False)
    except ValueError as error:
        raise RunError(
            f"Run '{run_id}' in the zip holds a number that is too large to be one. Nothing was imported."
        ) from error
    for path in folder.glob("*.safetensors"):
        if safetensors_header(path) is None:
            raise RunError(f"{run_id}/{path.name} in the zip is damaged. Nothing was imported.")
    for path in folder.glob("*.npz"):
        _check_arrays(path, run_id)
    for name in ("model.json", "checksums.json", "report.json", "report-local.json"):
        if (folder / name).exists() and not isinstance(_json(folder / name), dict):
            raise RunError(f"{run_id}/{name} in the zip is damaged. Nothing was imported.")
    status = {k: v for k, v in run.status.items() if k not in ("worker", "turn", "reserved", "ray")}
    if status["state"] in ACTIVE or status["state"] not in ("stopped", "finished", "failed"):
        todo = "What it needs to go on stayed there." if run.metrics else "Resume trains it from its start here."
        status.update(state="stopped", error=f"It was exported before its end. {todo}")
    write_json_atomic(folder / "status.json", {**status, "imported": time.time()})
    if run.notes.archived:
        write_notes(run, archived=False)
    return run


def _check_members(store: RunStore, run_id: str, run: Run, imported: Mapping[str, Run]) -> None:
    """Raises RunError where the zip lacks a member of an ensemble and the run of that id here cannot be the one."""
    here = {m: store.get(m) for m in run.members if m not in imported and store.folder(m).exists()}
    changed = run.changed_members() if here else []
    for member, found in here.items():
        why = ""
        if found.fingerprint != run.fingerprint:
            why = "it was trained on other data"
        elif found.model and _network_of_member(run, member) not in (None, _network(found)):
            why = "it has another network"
        elif member in changed:
            why = "it has other weights"
        elif member not in run.made_of and not _took_as_long(run, {**here, **imported}):
            why = "it was trained at another time"
        if why:
            raise RunError(
                f"The ensemble '{run_id}' in the zip answers with a run '{member}', which the zip does not hold, and the one of "
                f"that name here is another: {why}. Export the ensemble together with its members. Nothing was imported."
            )


def _network_of_member(run: Run, member: str) -> tuple[object, ...] | None:
    """What an ensemble's layer table says of a member's network; None where it says nothing."""
    layers = run.model.get("layers")
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and layer.get("name") == member:
            return layer.get("detail"), layer.get("num_params"), layer.get("multiply_adds")
    return None


def _network(run: Run) -> tuple[object, ...]:
    return run.config and run.config.model.name, run.model.get("num_params", 0), run.model.get("multiply_adds", 0)


def _took_as_long(run: Run, known: Mapping[str, Run]) -> bool:
    """Whether the members' epochs took the seconds that an ensemble keeps of them; True where that cannot be told."""
    if not run.last or any(m not in known for m in run.members):
        return True
    seconds = sum(float(row["epoch_seconds"]) for m in run.members for row in known[m].metrics)
    return abs(seconds - run.last["epoch_seconds"]) < 0.01


def _check_origin(store: RunStore, run_id: str, run: Run, imported: Mapping[str, Run]) -> None:
    """Where the zip lacks the run that one began from and there is one of that id here: raises RunError if its weights are
    others; says so in the status of a run that has yet to begin, of which that cannot be told."""
    origin = _origin(run)
    if not origin or origin in imported or not store.folder(origin).exists():
        return
    first, path = run.status.get("first_weights"), store.folder(origin) / "best.safetensors"
    wanted = first.get("sha256") if isinstance(first, dict) else None
    if wanted and (not path.is_file() or sha256(path) != wanted):
        raise RunError(
            f"Run '{run_id}' in the zip began from a run '{origin}', which the zip does not hold, and the one of that name here has "
            "other weights. Export the two together. Nothing was imported."
        )
    if not wanted and not run.metrics:
        status = json.loads((run.path / "status.json").read_bytes())
        said = f"It would begin from the run '{origin}' of this store, which may be another than was meant: the zip does not hold it."
        write_json_atomic(run.path / "status.json", {**status, "error": f"{status.get('error') or ''} {said}".strip()})


def _origin(run: Run) -> str | None:
    return run.config.model.from_run if run.config else None


def _needed_first(runs: Mapping[str, Run]) -> list[str]:
    """The ids of the runs, an ensemble's members before it, and before each run the one that it began from."""
    ordered: dict[str, None] = {}
    waiting = list(reversed(runs))
    opened = set()
    while waiting:
        run_id = waiting[-1]
        needed = [*runs[run_id].members, _origin(runs[run_id])]
        missing = [n for n in needed if n in runs and n not in opened]  # in a circle, which no trainer makes, any order
        opened.add(run_id)
        if missing:
            waiting += missing
        else:
            ordered[waiting.pop()] = None
    return list(ordered)


def _rename_needed(run: Run, names: Mapping[str, str]) -> None:
    """Let a run that is not in the store yet name its members and the runs that its weights go back to by their new ids:
    `{id in the zip: id here}`."""
    origin, data = _origin(run), _dict(run.record.get("data"))
    behind = [_dict(o).get("run") for o in _list(data.get("learned_from"))]
    named = [n for n in (*run.members, origin, *_dict(run.status.get("origins")), *behind) if isinstance(n, str)]
    if all(names.get(n, n) == n for n in named):
        return
    record = {**run.record, "data": _renamed_behind(data, names)}
    if run.members:
        record["members"] = [names.get(m, m) for m in run.members]
    if origin in names:
        record["config"] = {**record["config"], "model": {**record["config"]["model"], "from_run": names[origin]}}
        record["experiment"] = read_config(record["config"]).experiment
    write_json_atomic(run.path / "config.json", record)
    _rename_in_status(run, names)
    model, layers = run.model, run.model.get("layers")
    if run.members and isinstance(layers, list):
        renamed = [{**x, "name": names.get(x["name"], x["name"])} if _is_of(x, run.members) else x for x in layers]
        write_json_atomic(run.path / "model.json", {**model, "layers": renamed})
    (run.path / CHECKSUMS).unlink(missing_ok=True)  # they were of the files as they came


def _renamed_behind(data: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    """A record's facts of its data, the trainings behind its first weights and the note that names them under their ids here."""
    renamed = dict(data)
    if isinstance(note := data.get("start_note"), str):
        renamed["start_note"] = re.sub(r"run '([^']+)'", lambda m: f"run '{names.get(m[1], m[1])}'", note)
    if behind := _list(data.get("learned_from")):
        renamed["learned_from"] = [
            {**_dict(o), "run": names.get(str(_dict(o).get("run")), _dict(o).get("run"))} for o in behind
        ]
    return renamed


def _rename_in_status(run: Run, names: Mapping[str, str]) -> None:
    """The run that the first weights were of, and the trainings that an ensemble's seconds hold."""
    status = json.loads((run.path / "status.json").read_bytes())
    first, origins = _dict(status.get("first_weights")), _dict(status.get("origins"))
    if (origin := str(first.get("run"))) in names:
        status["first_weights"] = {**first, "run": names[origin]}
    if origins:
        status["origins"] = {names.get(o, o): there for o, there in origins.items()}
    write_json_atomic(run.path / "status.json", status)


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_of(layer: object, members: Sequence[str]) -> bool:
    return isinstance(layer, dict) and layer.get("name") in members


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _check_arrays(path: Path, run_id: str) -> None:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(info.file_size for info in packed.infolist())
        if size > MAX_ARRAY_BYTES:
            raise RunError(
                f"{run_id}/{path.name} in the zip would unpack to {size / 2**20:,.0f} MB. At most {MAX_ARRAY_BYTES // 2**20} MB are allowed. Nothing was imported."
            )
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                file[name]
    except (KeyError, MemoryError, *_DAMAGE) as error:
        raise RunError(f"{run_id}/{path.name} in the zip is damaged or holds code. Nothing was imported.") from error
