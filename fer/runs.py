"""The run store: one folder a run, read and written as the contract between the trainer and everybody who looks.

    config.json     once, by whoever creates the run     schema, kind, recipe, data fingerprint, created, the whole config
    status.json     the trainer, replaced atomically     state, progress, speed, device, versions, error
    model.json      the trainer, at the start            layer table, parameters, multiply-adds
    metrics.jsonl   the trainer, one line an epoch       lr, losses, top-1, macro F1, seconds
    report.json     evaluate                             metrics by data fingerprint and split
    notes.json      the dashboard                        name, tags, note, pinned, archived
    stop            the dashboard                        a request to end

Reading never changes a folder and never blocks a trainer. What is damaged is a named state, not an exception. What was
read is kept by the identity of its files, so that a store of finished runs costs a look at each file and no reading.
Fractions are 0 to 1 everywhere; times are seconds since the epoch (UTC).
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import re
import secrets
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock

from fer import access
from fer.config import Config, read_config
from fer.errors import FerError, RunBroken, RunBusy, RunError
from fer.files import PROJECT_ROOT, sha256, sync_folder, write_bytes_atomic, write_json_atomic
from fer.recipes import RECIPES, changes_from

SCHEMA = 1
TTA = "+tta"  # what stands behind a split's name where test-time views were averaged
STATES = ("queued", "running", "stopping", "stopped", "finished", "failed", "lost", "broken")
ACTIVE = ("queued", "running", "stopping")
RESUMABLE = ("stopped", "failed", "lost")
INSTEAD = "Clone it instead, or use Train on to begin from its best weights."  # of a run that cannot go on here
MAX_ADOPTIONS = 3  # of a run that goes down each time with the machine it trains on
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_NAME_LENGTH, _NOTE_LENGTH, _TAG_LENGTH = 80, 4000, 40
_STATUS_NUMBERS = (
    "epoch",
    "step",
    "steps_per_epoch",
    "images_per_sec",
    "running_loss",
    "running_top1",
    "queued",
    "turn",
    "adoptions",
    "adopted_epoch",
)
_RAY_KINDS = {"address": str, "job": str, "cpus": int, "gpus": int | float, "memory_gib": int | float}
_NOTE_KINDS = {"name": str, "tags": list, "note": str, "pinned": bool, "archived": bool}
_LAST_SECOND = 253402300800.0  # the year 10,000: no clock says so, and no calendar shows it
_RESERVED_SECONDS = 60.0
_SILENT_SECONDS = (
    60.0  # a trainer writes its status each second; where a cluster's storage has no locks that is all one hears
)
TRASH = ".trash"
_REPORT_FILES = ("report.json", "report-local.json")  # the second for what is made of a shipped run
_METRIC_KEYS = ("lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_macro_f1", "epoch_seconds")
# What json.dumps makes of an epoch's row: JSON numbers that are finite as float, the usual keys first.
_NUMBER = r"-?(?:0|[1-9]\d{0,15}+)(?:\.\d++)?+(?:e[-+]\d{1,2}+)?+"
_PAIRS = "".join(f', "{key}": {_NUMBER}' for key in _METRIC_KEYS)
_AS_WRITTEN = re.compile(
    rf'(?:\{{"epoch": [1-9]\d{{0,8}}+{_PAIRS}(?:, "(?!val_top1")\w++": {_NUMBER})*+\}}\n)*+'.encode()
)
_EPOCH, _VAL_TOP1 = re.compile(rb'"epoch": (\d+)'), re.compile(rb'"val_top1": ([^,]+)')


def store_root() -> Path:
    """The folder of all runs: `FER_RUNS_DIR`, or `checkpoints/` in the project."""
    return Path(os.environ.get("FER_RUNS_DIR") or PROJECT_ROOT / "checkpoints").expanduser()


def check_run_id(run_id: str) -> str:
    """The id, if it can be a run's; never a path. Raises RunError."""
    if not _ID.fullmatch(run_id) or ".." in run_id:
        raise RunError(
            f"{run_id!r} cannot be a run id. Use 1 to 80 of the characters a-z, 0-9, '.', '_' and '-', "
            "and begin with a letter or digit."
        )
    return run_id


@dataclass(frozen=True)
class Notes:
    """What people say of a run; the trainer never reads it."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    pinned: bool = False
    archived: bool = False


class Metrics(Sequence[Mapping[str, Any]]):
    """The rows of a `metrics.jsonl` that is as the trainer writes it, from epoch 1 on; parsed when somebody looks at them.

    A list of a thousand runs asks for each one's best and last epoch only. Hashable, so that a figure can be kept by
    what it was drawn from.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    @cached_property
    def _rows(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(json.loads(b"[" + self._content[:-1].replace(b"\n", b",") + b"]"))

    def __len__(self) -> int:
        return self._content.count(b"\n")

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice) or "_rows" in self.__dict__:
            return self._rows[index]
        line = range(len(self))[index]
        return json.loads(self._content.split(b"\n", line + 1)[line])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Metrics):
            return self._content == other._content
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self._content)

    @property
    def best(self) -> Mapping[str, Any]:
        """The row with the highest validation top-1, the first of equals."""
        values = [float(value) for value in _VAL_TOP1.findall(self._content)]
        return self[values.index(max(values))]


@dataclass(frozen=True)
class Run:
    """One run as it was when it was read. `problems` names what is damaged; `config` is None only in state `broken`."""

    id: str
    path: Path
    state: str
    config: Config | None
    record: Mapping[str, Any]
    status: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    notes: Notes = field(default_factory=Notes)
    shipped: bool = False
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name people gave it, else its id."""
        return self.notes.name or self.id

    @property
    def recipe(self) -> str:
        """The recipe it was made from, or 'custom', or 'ensemble'."""
        return str(self.record.get("recipe") or ("ensemble" if self.members else "custom"))

    @property
    def data_name(self) -> str:
        return self.config.data.name if self.config else "unknown"

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the data it was trained on; '' where it was not recorded."""
        return str(self.record.get("data", {}).get("fingerprint") or "")

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on drawn faces."""
        return bool(self.record.get("data", {}).get("synthetic"))

    @property
    def fer2013(self) -> bool:
        """Whether it was trained on FER2013; of runs of before, which did not write it down, by the name of their data set."""
        noted = self.record.get("data", {}).get("fer2013")
        return noted if isinstance(noted, bool) else self.data_name == "fer2013"

    @property
    def split_note(self) -> str | None:
        """The caveat about the data's splits that belongs beside every figure of this run."""
        note = self.record.get("data", {}).get("split_note")
        return note if isinstance(note, str) and note else None

    @property
    def start_note(self) -> str | None:
        """The caveat about the run that it began from, where that one learned from other data; None where there is none."""
        note = self.record.get("data", {}).get("start_note")
        return note if isinstance(note, str) and note else None

    @property
    def remark(self) -> str | None:
        """What whoever shipped the run says about its figures; None for one's own runs."""
        remark = self.record.get("remark")
        return remark if isinstance(remark, str) and remark else None

    @property
    def submission(self) -> str | None:
        """What the runs that were launched together have in common; None for one that was launched by itself."""
        found = self.record.get("submission")
        return found if isinstance(found, str) else None

    @property
    def launched_by(self) -> str:
        """The address of whoever launched it; '' where nobody had to log in for that."""
        found = self.record.get("launched_by")
        return found if isinstance(found, str) else ""

    @property
    def state_in_words(self) -> str:
        """The state, and that something of the folder is damaged where it is: 'finished, damaged'."""
        return f"{self.state}, damaged" if self.problems and self.state != "broken" else self.state

    @property
    def on_ray(self) -> Mapping[str, Any] | None:
        """Where on a Ray cluster it was launched and what it asks for there, see `fer.cluster`; None for this machine's own."""
        return self.status.get("ray")

    @property
    def adoptions(self) -> int:
        """How often it was queued again after its machine went away, without an epoch ending since."""
        return int(self.status.get("adoptions", 0)) if self.status.get("adopted_epoch") == len(self.metrics) else 0

    @property
    def stayed_behind(self) -> bool:
        """Whether it was imported with epochs: what it needs to go on never comes along, so they cannot be gone on with."""
        return "imported" in self.status and bool(self.metrics) and not os.path.isfile(f"{self.path}/resume.pt")

    @property
    def not_resumed(self) -> str:
        """Why it cannot be resumed, in a sentence; '' where it can."""
        if self.state not in RESUMABLE:
            return f"Run '{self.id}' is {self.state}; only a {', '.join(RESUMABLE[:-1])} or {RESUMABLE[-1]} run can be resumed."
        if self.shipped:
            return f"Run '{self.id}' came with the project and keeps no state to resume from. Clone it instead."
        if self.members:
            return (
                f"'{self.id}' is an ensemble whose making was broken off; there is no training to resume. Delete it, "
                f"and make it again of {', '.join(self.members)}."
            )
        if self.stayed_behind:
            return f"Run '{self.id}' was imported without what it needs to go on, so resuming would throw away its {len(self.metrics)} epochs. {INSTEAD}"
        return ""

    @property
    def created(self) -> float:
        return float(self.record.get("created") or 0.0)

    @property
    def epochs(self) -> int:
        """The number of epochs it was asked to train."""
        return self.config.train.epochs if self.config else 0

    @cached_property
    def best(self) -> Mapping[str, Any] | None:
        """The metrics of the epoch with the highest validation top-1, the first of equals; None before the first."""
        if isinstance(self.metrics, Metrics):
            return self.metrics.best
        return max(self.metrics, key=lambda row: row["val_top1"], default=None)

    @cached_property
    def last(self) -> Mapping[str, Any] | None:
        """The metrics of the last epoch that ended; None before the first."""
        return self.metrics[-1] if self.metrics else None

    @cached_property
    def epoch_seconds(self) -> float | None:
        """The median seconds of an epoch, training and validation together."""
        return statistics.median(row["epoch_seconds"] for row in self.metrics) if self.metrics else None

    @property
    def whole_epoch_seconds(self) -> float | None:
        """Median seconds of the epochs in which all learns that learns at all: those after frozen ones, where any follow."""
        if not self.config:
            return None
        frozen = self.config.frozen_epochs if self.config.frozen_epochs < self.config.train.epochs else 0
        seconds = [row["epoch_seconds"] for row in self.metrics[frozen:]]
        return statistics.median(seconds) if seconds else None

    @property
    def progress(self) -> float:
        """The share of all steps that is done, 0 to 1."""
        if self.state == "finished":
            return 1.0
        steps = self.status.get("steps_per_epoch") or 0
        done = self.status.get("epoch", 0) + (self.status.get("step", 0) / steps if steps else 0.0)
        return min(1.0, max(done, len(self.metrics)) / self.epochs) if self.epochs else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end at the speed so far; None where nothing was measured or nothing runs."""
        if self.state != "running" or not self.config:  # one that stops ends within a step
            return None
        if seconds := self.whole_epoch_seconds:
            return (1 - self.progress) * self.epochs * seconds
        if 0 < self.config.frozen_epochs < self.config.train.epochs:  # these are quicker than those that are left
            return None
        speed, steps = self.status.get("images_per_sec"), self.status.get("steps_per_epoch", 0)
        pictures = steps * self.config.train.batch_size * self.epochs
        return (1 - self.progress) * pictures / speed if speed else None

    @cached_property
    def changes(self) -> Mapping[str, Any]:
        """What differs from the recipe, data set and seed included: `{dotted path: value}`; empty without a known recipe."""
        return changes_from(self.recipe, self.config) if self.config and self.recipe in RECIPES else {}

    @cached_property
    def experiment(self) -> str:
        """Shared by runs that differ in seed and `runtime` only; an ensemble and a broken run stand alone."""
        return self.config.experiment if self.config and not self.members else self.id

    @property
    def members(self) -> tuple[str, ...]:
        """The ids of the runs that an ensemble is made of; empty for a run that was trained."""
        named = self.record.get("members")
        known = self.record.get("kind") == "ensemble" and isinstance(named, list)
        return tuple(m for m in named if isinstance(m, str) and _ID.fullmatch(m)) if known else ()

    @property
    def origins_note(self) -> str:
        """Which trainings beside its members' an ensemble's seconds hold, and which they lack, in words; '' where neither."""
        named = self.status.get("origins") if self.members else None
        origins = named if isinstance(named, dict) else {}  # {run: whether it is in the seconds}
        counted, missing = ([o for o, there in origins.items() if bool(there) is want] for want in (True, False))
        parts = [f"including {', '.join(counted)}, which they began from"] * bool(counted)
        parts += [f"without {', '.join(missing)}, which they began from and which was not in the store"] * bool(missing)
        return ", ".join(parts)

    @property
    def made_of(self) -> Mapping[str, str]:
        """What the weights of an ensemble's members hashed to when it was made, `{member: sha256}`; empty where that was
        not written down."""
        layers = self.model.get("layers") if self.members else None
        rows = [x for x in layers if isinstance(x, dict)] if isinstance(layers, list) else []
        return {m: x["weights"] for m in self.members for x in rows if x.get("name") == m and "weights" in x}

    def changed_members(self) -> list[str]:
        """The members of an ensemble that are here and have other weights than those it was made of; reads the weights."""
        here = ((m, digest, self.path.parent / m / "best.safetensors") for m, digest in self.made_of.items())
        return [m for m, digest, path in here if path.is_file() and sha256(path) != digest]

    @property
    def has_weights(self) -> bool:
        """Whether it can be asked about pictures; an ensemble where each of its members can."""
        folders = [self.path.parent / m for m in self.members] or [self.path]
        return self.config is not None and all(os.path.isfile(f"{f}/best.safetensors") for f in folders)

    def missing_members(self) -> str:
        """Which members' weights an ensemble needs and are not here, where they are, and what to do; '' where all are here."""
        gone = [m for m in self.members if not os.path.isfile(f"{self.path.parent}/{m}/best.safetensors")]
        if not gone:
            return ""
        store = RunStore(self.path.parent)
        trashed = {t.run for t in store.trash()}
        where = {
            m: "has no weights"
            if store.folder(m).is_dir()
            else f"is in the trash (python -m fer runs trash restore {m})"
            if m in trashed
            else "is not in the store"
            for m in gone
        }
        needs = " and ".join(f"its member '{m}', which {said}" for m, said in where.items())
        return f"The ensemble '{self.id}' needs {needs}. Bring that back or import it again, or make the ensemble anew."

    @property
    def has_reports(self) -> bool:
        """Whether there is a file of reports, damaged or not."""
        return any(os.path.isfile(f"{self.path}/{name}") for name in _REPORT_FILES)

    # The next two look at their files each time: a run outlives a report that is written beside it.

    @property
    def model(self) -> Mapping[str, Any]:
        """The layer table, `num_params` and `multiply_adds`; empty where the trainer has not written it, and without a
        count that is none."""
        found = _read_object(f"{self.path}/model.json")
        odd = [k for k in ("num_params", "multiply_adds") if not isinstance(found.get(k, 0), int)]
        return {k: v for k, v in found.items() if k not in odd} if odd else found

    @property
    def reports(self) -> Mapping[str, Mapping[str, Any]]:
        """`{data fingerprint: {split: report}}`; empty where nothing was evaluated."""
        shipped, local = (_read_reports(f"{self.path}/{name}") for name in _REPORT_FILES)
        if not local:
            return shipped
        both = {**local, **shipped}
        return {f: {**local.get(f, {}), **shipped.get(f, {})} for f in both}  # the shipped report wins

    def report(self, split: str = "val", fingerprint: str | None = None) -> dict[str, Any] | None:
        """The report on a split of its own data, or of the data with that fingerprint; None where there is none of its best epoch."""
        found = self.kept_report(split, fingerprint)
        return None if self.is_outdated(found) else found

    def kept_report(self, split: str = "val", fingerprint: str | None = None) -> dict[str, Any] | None:
        """As `report`, but an outdated one, too."""
        found = self.reports.get(fingerprint or self.fingerprint, {}).get(split)
        return found if isinstance(found, dict) else None

    def is_outdated(self, report: Mapping[str, Any] | None) -> bool:
        """Whether a report of this run is of another epoch than the best, whose weights are kept: it was resumed since.

        Where lines of its metrics are damaged, the best epoch is not known and no report is called so.
        """
        if not report or not self.best or any(p.startswith("metrics.jsonl") for p in self.problems):
            return False
        return report.get("epoch") not in (None, self.best["epoch"])

    def temperature(self, *, tta: bool = False) -> float:
        """By which to divide its logits so that its probabilities say how often it is right; with views that of one look where
        there is none with them, and 1 where none was fitted."""
        fitted = self.fitted_temperature(tta=tta)
        fitted = self.fitted_temperature() if fitted is None and tta else fitted
        return 1.0 if fitted is None else fitted

    def fitted_temperature(self, *, tta: bool = False) -> float | None:
        """As `temperature`, but None where none was fitted on val with just these views."""
        found = (self.report("val" + TTA * tta) or {}).get("calibration")
        value = found.get("temperature") if isinstance(found, dict) else None
        return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None

    def log_tail(self, lines: int = 200) -> str:
        """The last lines of `train.log`, '' where there is none."""
        try:
            with open(self.path / "train.log", "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 400 * lines))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True)
class Trashed:
    """A run in the trash. deleted: seconds since the epoch; bytes: of all its files."""

    key: str
    run: str
    deleted: float
    bytes: int


def by_merit(runs: Iterable[Run]) -> list[Run]:
    """The runs that have a figure, best first: photographs before drawn faces, then by best validation top-1."""
    usable = [r for r in runs if r.best and r.state != "broken"]
    return sorted(usable, key=lambda r: (not r.synthetic, r.best["val_top1"] if r.best else 0.0), reverse=True)


def write_notes(run: Run, **changes: Any) -> None:
    """Replace what people say of a run by that with these changes; for whoever may change its folder."""
    write_json_atomic(run.path / "notes.json", {"schema": SCHEMA, **run.notes.__dict__, **changes})


def lost_ensembles(run_id: str, runs: Iterable[Run]) -> str:
    """Which of the runs are ensembles that cannot answer without this one, in a sentence; '' where none is."""
    names = [r.name for r in runs if run_id in r.members]
    if len(names) < 2:
        return f"The ensemble {names[0]} has it as a member and cannot answer without it." if names else ""
    return f"The ensembles {', '.join(names)} have it as a member and cannot answer without it."


def epoch_in_words(row: Mapping[str, Any], epochs: int) -> str:
    """An epoch's metrics as one line, as the log has it."""
    return (
        f"epoch {row['epoch']}/{epochs}  lr {row['lr']:.3g}  train loss {row['train_loss']:.4f} top-1 {row['train_top1']:.2%}  "
        f"val loss {row['val_loss']:.4f} top-1 {row['val_top1']:.2%}  {row['epoch_seconds']:.1f} s"
    )


def whole_report(report: Any) -> bool:
    """Whether a report read from disk has what is shown of one; files can be edited and damaged."""
    try:
        size = len(report["classes"])
        matrix, rows = report["confusion_matrix"], report["per_class"].values()
        numbers = [report.get("epoch", 0), *(report[key] for key in ("n", "loss", "top1", "macro_f1"))]
        numbers += [row[key] for key in ("precision", "recall", "f1", "n") for row in rows]
        numbers += [cell for cells in matrix for cell in cells]
        square = len(matrix) == len(rows) == size and all(len(cells) == size for cells in matrix)
        noted = isinstance(report.get("split_note") or "", str)
        return square and noted and all(map(math.isfinite, numbers))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False


def temperature_note(report: Mapping[str, Any]) -> str:
    """Which temperatures a report could not have and what it took instead, in a sentence; '' where it had all."""
    found = report.get("calibration")
    names = found.get("unfitted") if isinstance(found, Mapping) else None
    if not names or not isinstance(names, list):
        return ""
    views, instead = (" with ten views", "That of one look") if report.get("tta") else ("", "None")
    return (
        f"No temperature was fitted{views} for {', '.join(map(str, names))}, whose own data set is not prepared on this machine. "
        f"{instead} was used, so the probabilities may be too sure or not sure enough."
    )


def known_note(report: Mapping[str, Any], run: Run, percent: Callable[[float], str]) -> str:
    """How many of a report's pictures the run learned from, and the top-1 without them, in words; '' where that is none.

    percent: how to write a fraction.
    """
    found = report.get("duplicates")
    twice = found if isinstance(found, Mapping) else {}
    n, without = twice.get("in_train"), twice.get("top1_without")
    of, lacking = (v if isinstance(v, list) else [] for v in (twice.get("of"), twice.get("uncounted")))
    elsewhere = bool(run.fingerprint) and report.get("fingerprint") not in (None, run.fingerprint)
    if "in_train" in twice and elsewhere and not of:
        return (
            "How many of these pictures it learned from is not known: this report of an earlier version counted those that stand in "
            "the train split of the data it is about. Evaluating again counts them."
        )
    learned = f"are among those that it learned from, the training pictures of {' and '.join(map(str, of))}"
    said = []
    if isinstance(n, int) and n and isinstance(without, int | float):
        said.append(
            f"{n:,} of these pictures {learned if of else 'stand in train too'}; top-1 without them is {percent(without)}."
        )
    elif n and of:
        said.append(f"All of these pictures {learned}.")
    if lacking:
        more = "more of these pictures" if "in_train" in twice else "of these pictures"
        names, verb = " and ".join(map(str, lacking)), "is" if len(lacking) == 1 else "are"
        said.append(
            f"How many {more} it learned from is not known: {names} {verb} not prepared on this machine as then."
        )
    return " ".join(said)


def precision_of(report: Mapping[str, Any], label: str) -> float | None:
    """How often an answer with this label was right, of a whole report; None where there was no such answer."""
    column = list(report["per_class"]).index(label)
    said = sum(row[column] for row in report["confusion_matrix"])
    return float(report["per_class"][label]["precision"]) if said else None


class RunStore:
    """All runs below one root. Cheap to make; what was read is kept by file identity and shared."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or store_root()

    # --- reading ---------------------------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """The ids of all run folders, sorted; what cannot be a run's folder is passed over."""
        try:
            with os.scandir(self.root) as entries:
                return sorted(e.name for e in entries if _ID.fullmatch(e.name) and e.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(
                f"The run store {self.root} cannot be read: {error.strerror}. Set FER_RUNS_DIR to a folder that can."
            ) from error

    def runs(self, *, archived: bool = False) -> list[Run]:
        """All runs, newest first; archived ones only when asked for."""
        found, shipped = [], self.shipped()
        for run_id in self.ids():
            with contextlib.suppress(RunError):  # deleted since it was listed
                found.append(self._get(run_id, shipped))
        kept = [r for r in found if archived or not r.notes.archived]
        return sorted(kept, key=lambda r: (-r.created, r.id))

    def get(self, run_id: str) -> Run:
        """One run. Raises RunError where there is none; a damaged one comes back in state `broken`."""
        return self._get(run_id, self.shipped())

    def _get(self, run_id: str, shipped: frozenset[str]) -> Run:
        key = f"{self.root}/{check_run_id(run_id)}"
        began = time.time_ns()
        try:
            identities = tuple([_identity(f"{key}/{name}") for name in _RUN_FILES])
        except OSError:
            return self._read(run_id, shipped)  # which names what cannot be read
        with _CACHE_LOCK:
            known = _RUNS.get(key)
        if known and known[0] == identities and known[1].shipped == (run_id in shipped):
            run = known[1]
        else:
            run = self._read(run_id, shipped, dict(zip(_RUN_FILES, identities, strict=True)), began)
            if not run.problems and all(_settled(i, began) for i in identities):
                _keep(_RUNS, key, (identities, run))
        state = self._state(run.path, run.status, run.config)  # a lock's holder can go without a trace in any file
        return run if run.state == state else replace(run, state=state)

    def _read(
        self, run_id: str, shipped: frozenset[str], seen: Mapping[str, Identity] | None = None, began: int = 0
    ) -> Run:
        """seen: the identities of its files, looked at after `began` (ns), so that they need not be looked at again."""
        path = self.root / run_id
        if not (seen and seen["config.json"]) and not path.is_dir():
            raise RunError(
                f"There is no run '{run_id}' in {self.root}. See what there is with: python -m fer runs list"
            )
        look = _looking(path, seen, began)
        problems: list[str] = []
        record, config = _read_record(look, problems)
        status = _read_status(look, problems)
        rows, damaged = look("metrics.jsonl", _parse_metrics) or ((), "")
        if damaged:
            problems.append(f"metrics.jsonl: {damaged} left out")
        return Run(
            id=run_id,
            path=path,
            state=self._state(path, status, config),
            config=config,
            record=record,
            status=status,
            metrics=rows,
            notes=_read_notes(look, problems),
            shipped=run_id in shipped,
            problems=tuple(problems),
        )

    def with_origins(self, runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
        """These runs and those whose weights they began from, and so on, each once; and the ids of those that are not here."""
        found, missing = {run.id: run for run in runs}, []
        waiting = list(found.values())
        while waiting:
            config = waiting.pop().config
            origin = config and config.model.from_run
            if not origin or origin in found or origin in missing:
                continue
            try:
                found[origin] = self.get(origin)
                waiting.append(found[origin])
            except RunError:
                missing.append(origin)
        return list(found.values()), missing

    def held(self) -> list[str]:
        """The ids of the runs that a process trains at this moment."""
        return [run_id for run_id in self.ids() if is_locked(self.root / run_id / "run.lock")]

    def shipped(self) -> frozenset[str]:
        """The ids of the runs that came with the project, named in `shipped.json` of the store."""
        names = _read_json(self.root / "shipped.json")
        return frozenset(n for n in names if isinstance(n, str)) if isinstance(names, list) else frozenset()

    def folder(self, run_id: str) -> Path:
        """The run's folder, whether it exists or not. Raises RunError for what cannot be an id."""
        return self.root / check_run_id(run_id)

    def _state(self, path: Path, status: Mapping[str, Any], config: Config | None) -> str:
        state = status.get("state")
        if config is None or state not in STATES:
            return "broken"
        if state == "queued" and status.get("reserved") and time.time() - status.get("queued", 0) > _RESERVED_SECONDS:
            return state if is_locked(path / "run.lock") else "lost"  # who reserved it is gone
        if state == "running":
            if not is_locked(path / "run.lock") and not _heard_of(status):
                return "lost"
            return "stopping" if (path / "stop").exists() else "running"
        return state

    # --- changing --------------------------------------------------------------------------------------------------

    def create(
        self,
        config: Config,
        *,
        recipe: str | None,
        data: Mapping[str, Any],
        run_id: str | None = None,
        kind: str = "run",
        members: Sequence[str] = (),
        reserved: bool = False,
        submission: str | None = None,
        **more: Any,
    ) -> Run:
        """Make a run's folder in state `queued`; whole or not at all.

        kind: 'run', or 'ensemble' with the ids of its members.

        data: what is known of the data set at this moment: `fingerprint`, `synthetic`, `split_note`.
        reserved: whoever creates it trains it too; a worker leaves it alone. submission: the same for all that are launched together.
        more: further facts for its status.
        Raises RunError where the id is taken or the store cannot be written.
        """
        wanted = check_run_id(run_id) if run_id else None
        now = time.time()
        record = {
            "schema": SCHEMA,
            "kind": kind,
            "recipe": recipe,
            "data": dict(data),
            "created": now,
            "experiment": config.experiment,
        }
        if members:
            record["members"] = list(members)
        if submission:
            record["submission"] = submission
        if by := access.visitor().address:
            record["launched_by"] = by
        record["config"] = config.model_dump(mode="json")
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)
            draft = self.root / f".new-{secrets.token_hex(8)}"
            draft.mkdir()
            try:
                write_json_atomic(draft / "config.json", record)
                status = {"schema": SCHEMA, "state": "queued", "queued": now, "reserved": reserved, **more}
                write_json_atomic(draft / "status.json", status)
                stem = kind if kind != "run" else f"{recipe or 'custom'}-s{config.seed}"
                final = self._place(draft, wanted, stem)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return self.get(final)

    def _place(self, draft: Path, wanted: str | None, stem: str) -> str:
        for _ in range(20):
            run_id = wanted or f"{stem}-{secrets.token_hex(2)}"
            target = self.folder(run_id)
            try:
                if not target.exists():
                    os.rename(draft, target)
                    sync_folder(self.root)
                    return run_id
            except OSError:
                if not target.exists():
                    raise
            if wanted:
                break
        raise RunError(f"There is a run '{run_id}' already. Choose another id, or delete that run first.")

    def write_status(self, run_id: str, status: Mapping[str, Any]) -> None:
        """Replace the run's status; only the holder of its lock, or the one who queues it, may."""
        write_json_atomic(self.folder(run_id) / "status.json", {"schema": SCHEMA, **status})

    def append_metrics(self, run_id: str, row: Mapping[str, Any]) -> None:
        """Add one epoch's line, flushed to disk before this returns."""
        access.require("adding an epoch")
        path = self.folder(run_id) / "metrics.jsonl"
        new = not path.exists()
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(path.parent)

    def read_metrics(self, run_id: str) -> tuple[Sequence[Mapping[str, Any]], str]:
        """The whole epochs of `metrics.jsonl`, and '' or what of it cannot be read."""
        return _cached(str(self.folder(run_id) / "metrics.jsonl"), _parse_metrics) or ((), "")

    def write_metrics(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace `metrics.jsonl` by these epochs; for who mends a run."""
        path = self.folder(run_id) / "metrics.jsonl"
        write_bytes_atomic(path, "".join(json.dumps(dict(r)) + "\n" for r in rows).encode())

    def cut_metrics(self, run_id: str, epochs: int) -> tuple[Mapping[str, Any], ...]:
        """Keep the first `epochs` epochs only, and a whole last line; returns them. For a run that is resumed."""
        path = self.folder(run_id) / "metrics.jsonl"
        if not path.exists():
            return ()
        rows = _parse_metrics(path.read_bytes())[0]
        kept = tuple(r for r in rows if r["epoch"] <= epochs)
        self.write_metrics(run_id, kept)
        return kept

    def request_stop(self, run_id: str) -> str:
        """Ask a run to end: a queued one is stopped at once, a running one after its step. Returns the new state.

        Raises RunError where it neither waits nor runs.
        """
        run = self.get(run_id)
        if run.state not in ACTIVE:
            raise RunError(f"Run '{run_id}' is {run.state}; only a queued or running one can be stopped.")
        with self._writing():
            (run.path / "stop").touch()
            if run.state == "queued":
                try:
                    with hold(run.path / "run.lock", timeout=0.2):
                        self._check_unchanged(run)
                        self.write_status(run_id, {**run.status, "state": "stopped", "finished": time.time()})
                        (run.path / "stop").unlink(missing_ok=True)
                except RunError:
                    pass  # the worker has just taken it: it will see the request
        return self.get(run_id).state

    def requeue(self, run_id: str, *, reserved: bool = False, **more: Any) -> Run:
        """Put a stopped, failed or lost run back into the queue; it goes on where its last save left it. An archived one comes
        back into view, since nobody would see it train.

        reserved: the caller trains it itself; a worker leaves it alone. more: further facts for its status.
        Raises RunError for any other state.
        """
        run = self.get(run_id)
        if run.not_resumed:
            raise RunError(run.not_resumed)
        with self._writing(), hold(run.path / "run.lock"):
            (run.path / "stop").unlink(missing_ok=True)
            self._check_unchanged(run)
            passed = ("turn", "worker", "adoptions", "adopted_epoch", "ray", "imported")
            kept = {k: v for k, v in run.status.items() if k not in passed}
            queued = {"state": "queued", "queued": time.time(), "error": None, "reserved": reserved, **more}
            if run.notes.archived:
                write_notes(run, archived=False)
            self.write_status(run_id, {**kept, **queued})
        return self.get(run_id)

    def set_turn(self, run_id: str, turn: float) -> Run:
        """Give a queued run another place in the queue: before all with a larger number. Raises RunError if it waits no more."""
        run = self.get(run_id)
        with self._writing(), hold(run.path / "run.lock", timeout=0.2):
            self._check_unchanged(run)
            self.write_status(run_id, {**run.status, "turn": turn})
        return self.get(run_id)

    def _check_unchanged(self, run: Run) -> None:
        """For the holder of its lock: somebody else may have started, stopped or queued it since it was looked at."""
        now = _read_status(_looking(run.path), [])
        if now.get("state") != run.status.get("state"):
            raise RunError(f"Run '{run.id}' has just become {now.get('state')}. Look again before you change it.")

    def mark(self, name: str, there: bool) -> None:
        """Make or take away an empty file of the store itself, such as the one that pauses its queue. Raises RunError."""
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)
            path = self.root / name
            path.touch() if there else path.unlink(missing_ok=True)

    def annotate(self, run_id: str, **changes: Any) -> Run:
        """Change the notes: name, tags, note, pinned, archived. A shipped run can be pinned and archived only.

        Raises RunError for text that is too long and for what a shipped run does not allow, RunBusy where a run that waits or
        trains is archived.
        """
        run = self.get(run_id)
        if changes.get("archived") and not run.notes.archived and run.state in ACTIVE:
            raise RunBusy(
                f"Run '{run_id}' is {run.state}, and out of view nobody would see it train. Stop it first, or wait until it ends."
            )
        if run.shipped and set(changes) - {"pinned", "archived"}:
            raise RunError(f"Run '{run_id}' came with the project: it can be archived from view, not renamed.")
        notes = {**run.notes.__dict__, **changes}
        notes["name"] = _one_line(str(notes["name"]), _NAME_LENGTH, "A name")
        notes["tags"] = [_one_line(str(t), _TAG_LENGTH, "A tag") for t in notes["tags"] if str(t).strip()]
        if len(str(notes["note"])) > _NOTE_LENGTH:
            raise RunError(f"A note has at most {_NOTE_LENGTH} characters; this one has {len(notes['note'])}.")
        with self._writing():
            write_notes(run, **notes)
        return self.get(run_id)

    def delete(self, run_id: str) -> str:
        """Move a run's folder to the trash; returns the key by which it can be brought back.

        Raises RunError for a shipped run and for one that is running.
        """
        run = self.get(run_id)
        if run.shipped:
            raise RunError(f"Run '{run_id}' came with the project: it can be archived from view, not deleted.")
        if run.on_ray and run.state in ("running", "stopping"):  # its lock need not be seen from here
            raise RunBusy(f"'{run_id}' trains on a Ray cluster. Stop it first, or wait until it ends.")
        with self._writing(), hold(run.path / "run.lock", timeout=0.2):
            trash = self.root / TRASH
            trash.mkdir(exist_ok=True)
            key = f"{run_id}@{time.time_ns()}"
            os.rename(run.path, trash / key)
            (trash / key / "run.lock").unlink(missing_ok=True)
            sync_folder(self.root)
            sync_folder(trash)
        return key

    def trash(self) -> list[Trashed]:
        """What was deleted and can be brought back, the last first."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / TRASH) as entries:
            for entry in entries:
                run_id, _, stamp = entry.name.rpartition("@")
                if entry.is_dir() and _ID.fullmatch(run_id) and stamp.isdecimal() and len(stamp) < 20:
                    files = [f.stat().st_size for f in Path(entry.path).rglob("*") if f.is_file()]
                    found.append(Trashed(entry.name, run_id, int(stamp) / 1e9, sum(files)))
        return sorted(found, key=lambda t: -t.deleted)

    def restore(self, key: str) -> str:
        """Bring a run back from the trash; returns its id, a new one where its own is taken. Raises RunError."""
        found = next((t for t in self.trash() if key in (t.key, t.run)), None)
        if found is None:
            raise RunError(
                f"There is no run {key!r} in the trash. See what there is with: python -m fer runs trash list"
            )
        with self._writing():
            return self.place(self.root / TRASH / found.key, found.run)

    def empty_trash(self) -> int:
        """Delete for good what is in the trash; returns the number of runs."""
        trashed = self.trash()
        with self._writing():
            for each in trashed:
                shutil.rmtree(self.root / TRASH / each.key)
        return len(trashed)

    def place(self, folder: Path, run_id: str) -> str:
        """Move a whole run's folder of this file system into the store; returns its id, a new one where `run_id` is taken."""
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                return self._place(folder, check_run_id(run_id), "")
            except RunError:
                return self._place(folder, None, run_id[:70])

    def read_folder(self, folder: Path) -> Run:
        """A run's folder that lies directly below the root under a name that is no id, such as one that is being made."""
        return self._read(folder.name, frozenset())

    def changing(self) -> contextlib.AbstractContextManager[None]:
        """For who writes into the store by itself: an OSError becomes a RunError that says what to do."""
        return self._writing()

    def save_report(self, run_id: str, fingerprint: str, split: str, report: Mapping[str, Any]) -> bool:
        """Keep a report by data fingerprint and split. Returns False, and writes nothing, where a shipped one stands."""
        run = self.get(run_id)
        path = run.path / ("report-local.json" if run.shipped else "report.json")
        if run.shipped and split in _read_reports(run.path / "report.json").get(fingerprint, {}):
            return False
        with self._writing(), hold(run.path / "report.lock"):
            reports = copy.deepcopy(_read_reports(path))  # what was read is shared
            reports.setdefault(fingerprint, {})[split] = dict(report)
            content = {"schema": SCHEMA, "reports": reports}
            write_json_atomic(path, content)
        return True

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        access.require("changing the run store")
        try:
            yield
        except OSError as error:
            raise RunError(
                f"The run store {self.root} cannot be written: {error.strerror}. Free some space, or set FER_RUNS_DIR to a folder that can be written."
            ) from error


# --- locks ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def hold(path: Path, timeout: float = 2.0) -> Iterator[None]:
    """Hold a lock file for the body; the system lets go of it when the process dies, however it dies.

    Tries again for `timeout` seconds, since a reader's look holds it for an instant. Raises RunError.
    """
    access.require(f"taking {path.name}")
    lock = filelock.FileLock(path, timeout=timeout, poll_interval=0.02)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunBusy(
            f"'{path.parent.name}' is in use by another process. Stop it first, or wait until it ends."
        ) from None
    except OSError as error:
        raise RunError(
            f"{path.parent} cannot be written: {error.strerror}. Set FER_RUNS_DIR to a folder that can be."
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a living process holds this lock. A shared look, given back at once; works in a read-only store."""
    try:
        import fcntl
    except ImportError:  # Windows has no shared look: try to take it
        try:
            with filelock.FileLock(path, timeout=0):
                return False
        except filelock.Timeout:
            return True
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


# --- reading files, kept by identity -------------------------------------------------------------------------------

Identity = tuple[int, int, int] | None  # inode, time of change in ns, size; None: there is no such file

# A file's name and what makes a value of its content, to that value.
Look = Callable[[str, Callable[[bytes], Any]], Any]

_NO_STATUS, _BAD_NOTES = "status.json is missing or damaged", "notes.json is damaged"
_RUN_FILES = ("config.json", "status.json", "metrics.jsonl", "notes.json")
_FILES: dict[str, tuple[Identity, Any]] = {}
_RUNS: dict[str, tuple[tuple[Identity, ...], Run]] = {}
_CACHE_LIMIT = 100_000
_CACHE_LOCK = threading.Lock()
_CLOCK_NS = 2 * 10**9  # the coarsest clock of a file system


def _identity(path: str) -> Identity:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _settled(identity: Identity, now: int) -> bool:
    """Whether a file's next change must show in its identity: within one tick of the clock it need not."""
    return identity is None or now - identity[1] > _CLOCK_NS


def _cached(path: str, parse: Callable[[bytes], Any]) -> Any:
    """`parse(content)`, done once for each version of the file; None where there is no file."""
    began = time.time_ns()
    try:
        identity = _identity(path)
    except OSError as error:
        raise RunBroken(f"{path} cannot be read: {error.strerror}.") from error
    return _version(path, parse, identity, began)


def _version(path: str, parse: Callable[[bytes], Any], identity: Identity, began: int) -> Any:
    """`parse(content)` of a file that had this identity after `began` (ns), done once; None where there is no file."""
    if identity is None:
        return None
    with _CACHE_LOCK:
        known = _FILES.get(path)
    if known and known[0] == identity:
        return known[1]
    try:
        with open(path, "rb") as file:
            value = parse(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunBroken(f"{path} cannot be read: {error.strerror}.") from error
    if _settled(identity, began):
        _keep(_FILES, path, (identity, value))
    return value


def _looking(path: Path, seen: Mapping[str, Identity] | None = None, began: int = 0) -> Look:
    """How to read the files of a run's folder; those that were just seen, after `began` (ns), are not looked at again."""

    def look(name: str, parse: Callable[[bytes], Any]) -> Any:
        file = f"{path}/{name}"
        return _version(file, parse, seen[name], began) if seen else _cached(file, parse)

    return look


def _keep(cache: dict[str, Any], key: str, value: Any) -> None:
    with _CACHE_LOCK:
        if len(cache) >= _CACHE_LIMIT:
            cache.clear()
        cache[key] = value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _parse_json(content: bytes) -> Any:
    try:
        return _DECODER.decode(content.decode(json.detect_encoding(content), "surrogatepass"))
    except (ValueError, RecursionError):
        return RunBroken("is not JSON")


def _read_json(path: Path | str) -> Any:
    """The file's JSON value; None where it is missing or damaged."""
    try:
        value = _cached(str(path), _parse_json)
    except RunBroken:
        return None
    return None if isinstance(value, RunBroken) else value


def _read_object(path: Path | str) -> dict[str, Any]:
    """The file's JSON object; empty where it is missing or damaged."""
    value = _read_json(path)
    return value if isinstance(value, dict) else {}


def _read_reports(path: Path | str) -> dict[str, dict[str, Any]]:
    """`{data fingerprint: {split: report}}` of one report file; empty where it is missing or damaged."""
    reports = _read_object(path).get("reports")
    whole = isinstance(reports, dict) and all(isinstance(by_split, dict) for by_split in reports.values())
    return reports if whole else {}


def _heard_of(status: Mapping[str, Any]) -> bool:
    """Whether a run on a Ray cluster has written its status lately: a lock need not be seen across the nodes' storage."""
    times = [t for t in (status.get("started"), status.get("updated")) if isinstance(t, int | float)]
    return "ray" in status and time.time() - max(times, default=0.0) < _SILENT_SECONDS


def _parse_metrics(content: bytes) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The rows that are whole and in order, and '' or a count of the lines that are not."""
    if content and _AS_WRITTEN.fullmatch(content):
        epochs = [int(epoch) for epoch in _EPOCH.findall(content)]
        if epochs == list(range(1, content.count(b"\n") + 1)):
            return Metrics(content), ""
    rows, bad = [], 0
    torn = ""
    for line in content.splitlines(keepends=True):
        try:
            row = json.loads(line)
            whole = row["epoch"] == len(rows) + 1 and all(math.isfinite(row[k]) for k in _METRIC_KEYS)
        except (ValueError, RecursionError, KeyError, TypeError, OverflowError):
            whole = False
        if whole:
            rows.append(row)
        elif line.endswith(b"\n"):
            bad += 1
        else:  # only the last can be without its end
            torn = "a torn last line"
    unread = f"{bad} line{'s' if bad > 1 else ''} that cannot be read" if bad else ""
    return tuple(rows), " and ".join(filter(None, (unread, torn)))


def _parse_record(content: bytes) -> tuple[Mapping[str, Any], Config | None, str]:
    record = _parse_json(content)
    if not isinstance(record, dict):
        return {}, None, "config.json is damaged"
    kinds = (("schema", None, int), ("data", {}, dict), ("created", 0.0, int | float))
    are_right = all(isinstance(record.get(key, missing), kind) for key, missing, kind in kinds)
    if not are_right or not 0 <= record.get("created", 0.0) < _LAST_SECOND:
        return {}, None, "config.json is damaged"
    if record["schema"] > SCHEMA:
        return (
            {},
            None,
            f"it was written by a newer FER Lab (schema {record['schema']}, this one reads {SCHEMA}); update FER Lab to see it",
        )
    try:
        return record, read_config(record.get("config")), ""
    except FerError as error:
        return record, None, f"config.json: {error}"


def _read_record(look: Look, problems: list[str]) -> tuple[Mapping[str, Any], Config | None]:
    try:
        parsed = look("config.json", _parse_record)
    except RunBroken as error:
        parsed = ({}, None, str(error))
    record, config, problem = parsed or ({}, None, "config.json is missing")
    if problem:
        problems.append(problem)
    return record, config


def _parse_status(content: bytes) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """What can be used of a status, and what is wrong with it."""
    status = _parse_json(content)
    if not isinstance(status, dict) or not isinstance(status.get("state"), str):
        return {}, (_NO_STATUS,)
    problems = []
    odd = [k for k in _STATUS_NUMBERS if not isinstance(status.get(k, 0), int | float)]
    if odd:
        problems.append(f"status.json: {', '.join(odd)} left out, which should be a number")
    ray = status.get("ray")
    if "ray" in status and not (
        isinstance(ray, dict) and all(isinstance(ray.get(k), t) for k, t in _RAY_KINDS.items())
    ):
        problems.append("status.json: ray left out, which should say where on a cluster it runs")
        odd.append("ray")
    return {k: v for k, v in status.items() if k not in odd}, tuple(problems)


def _read_status(look: Look, problems: list[str]) -> Mapping[str, Any]:
    try:
        status, wrong = look("status.json", _parse_status) or ({}, (_NO_STATUS,))
    except RunBroken:
        status, wrong = {}, (_NO_STATUS,)
    problems.extend(wrong)
    return status


def _parse_notes(content: bytes) -> tuple[Notes, str]:
    notes = _parse_json(content)
    if not isinstance(notes, dict):
        return Notes(), _BAD_NOTES
    known = {k: notes[k] for k, kind in _NOTE_KINDS.items() if isinstance(notes.get(k), kind)}
    odd = any(k in notes and k not in known for k in _NOTE_KINDS)
    return Notes(**{**known, "tags": tuple(str(t) for t in known.get("tags", ()))}), _BAD_NOTES * odd


def _read_notes(look: Look, problems: list[str]) -> Notes:
    try:
        notes, wrong = look("notes.json", _parse_notes) or (Notes(), "")
    except RunBroken:
        notes, wrong = Notes(), _BAD_NOTES
    if wrong:
        problems.append(wrong)
    return notes


def _one_line(text: str, limit: int, what: str) -> str:
    cleaned = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(cleaned) > limit:
        raise RunError(f"{what} has at most {limit} characters; this one has {len(cleaned)}.")
    return cleaned
