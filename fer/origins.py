"""What weights learned from: the data of their own training and of all runs and files that they began from, and so on back.

A run's record names all of these (`data.learned_from`), and the header of its weights holds that, so that they are
known where one of those runs was deleted or weights were carried elsewhere. Records and headers of earlier versions name
the nearest only; there the store is followed as far as it leads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fer.config import ModelConfig, read_config
from fer.errors import FerError, RunError
from fer.runs import Run, RunStore

_HEADER_LIMIT = 100 * 2**20
_WORD = 80  # characters of a name that a file gives itself
_NOTED = re.compile(r"from run '([^']+)', which learned from '([^']+)'")  # in a note of before: one run and its data


@dataclass(frozen=True)
class Origin:
    """One training that weights come from.

    run: its id; data: its data set's name; fingerprint: of that data with its split; each '' where it is not known.
    val_fraction: the share of train that was held out as val.
    """

    run: str
    data: str = ""
    fingerprint: str = ""
    val_fraction: float | None = None


def learned_from(store: RunStore, run: Run) -> list[Origin]:
    """The run's own training and those that its first weights come from, the nearest first, each once; of an ensemble those of
    its members, as far as these are in the store."""
    if not run.members:
        return _once([origin_of(run), *_before(store, run, frozenset({run.id}))])
    return _once(o for member in _there(store, run.members) for o in learned_from(store, member))


def origin_of(run: Run) -> Origin:
    """The training of a run itself; of an ensemble, what its members have in common."""
    if run.config is None:
        return Origin(run.id, str(run.record.get("data", {}).get("name") or ""), run.fingerprint)
    return Origin(run.id, run.data_name, run.fingerprint, run.config.data.val_fraction)


def beginnings(store: RunStore, model: ModelConfig) -> list[Origin] | None:
    """The trainings that a network of this config would begin from, the nearest first; empty where its file holds weights of
    somebody else, None where it begins from neither run nor file. Raises RunError where there is no such run."""
    if model.from_run:
        return learned_from(store, store.get(model.from_run))
    if model.weights:
        return _of_file(store, Path(model.weights), frozenset())
    return None


def note(origins: Iterable[Origin], data: str, fingerprint: str) -> str | None:
    """What must be said of figures on the data set of this name and fingerprint where weights come from these trainings;
    None where all of them learned from the same."""
    others = [o for o in origins if o.fingerprint != fingerprint]
    if not others:
        return None
    told = ", and from ".join(f"run '{o.run}', {_in_words(o, data)}" for o in others)
    these = "that" if len(others) == 1 else "these"
    return f"It began from {told}: where pictures of {these} stand in this run's val, its figures are too good."


def to_json(origins: Iterable[Origin]) -> list[dict[str, Any]]:
    """As records and headers keep them."""
    return [asdict(o) for o in origins]


def safetensors_header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file whose size is what the header says; None for anything else. Reads no weights."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _HEADER_LIMIT:
                return None
            header = json.loads(file.read(length))
            tensors = [v for k, v in header.items() if k != "__metadata__"]
            end = max((t["data_offsets"][1] for t in tensors), default=0)
            return header if path.stat().st_size == 8 + length + end else None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None


def _before(store: RunStore, run: Run, seen: frozenset[str]) -> list[Origin]:
    """The trainings that a run's first weights come from. seen: the ids on the way here, none of which is followed again."""
    kept = _kept(run.record.get("data", {}).get("learned_from"))
    if kept is not None or run.config is None:
        return kept or []
    name, file = run.config.model.from_run, run.config.model.weights
    if not name:
        return _of_file(store, Path(file), seen) if file else []
    first = None if name in seen else next(iter(_there(store, [name])), None)
    if first is None or first.created > run.created:  # gone, or another run has its name by now
        return _as_noted(run, name)
    return [origin_of(first), *_before(store, first, seen | {name})]


def _as_noted(run: Run, name: str) -> list[Origin]:
    """What a run's record of an earlier version tells of the run that it began from, which is not here any more.

    Its note names a run of other data that stands behind it. Where it has none, or that of another run, the one it began from
    learned from the same data as itself.
    """
    if "start_note" not in run.record.get("data", {}):
        return [Origin(name)]
    noted = [Origin(_word(other), _word(data)) for other, data in _NOTED.findall(run.start_note or "")]
    same = (
        []
        if name in [o.run for o in noted]
        else [Origin(name, run.data_name, run.fingerprint, origin_of(run).val_fraction)]
    )
    return same + noted


def _of_file(store: RunStore, path: Path, seen: frozenset[str]) -> list[Origin]:
    """The trainings behind a file of weights; none where its header is not one of FER Lab's."""
    if path.suffix != ".safetensors":
        return []
    if not path.is_file():
        return [Origin(_word(path.name))]
    run = _run_in(path)
    return [origin_of(run), *_before(store, run, seen | {run.id})] if run else []


def _run_in(path: Path) -> Run | None:
    """The run that a file of FER Lab's weights is of, as its header tells; None where there is no such header."""
    head = (safetensors_header(path) or {}).get("__metadata__")
    if not isinstance(head, dict) or not str(head.get("format")).startswith("fer-lab/"):
        return None
    extra, settings = _object(head.get("extra")), _object(head.get("config"))
    try:
        config = read_config(settings) if settings else None
    except FerError:  # of a newer version
        config = None
    kept = extra["record"].get("data") if isinstance(extra.get("record"), dict) else None
    facts = kept if isinstance(kept, dict) else {}
    data = {**facts, "name": _word(extra.get("data")), "fingerprint": _word(extra.get("fingerprint"))}
    try:
        record = {"data": data, "created": path.stat().st_mtime}
    except OSError:
        return None
    name = _word(extra.get("run")) or _word(path.name)
    return Run(name, path.parent, "finished", config, record, {}, ())


def _object(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _kept(value: Any) -> list[Origin] | None:
    """The trainings that a record or header names; None where it does not say."""
    if not isinstance(value, list):
        return None
    return [_origin(one) for one in value if isinstance(one, Mapping)]


def _origin(one: Mapping[str, Any]) -> Origin:
    share = one.get("val_fraction")
    is_share = isinstance(share, int | float) and 0 < share < 1
    run, data, fingerprint = (_word(one.get(key)) for key in ("run", "data", "fingerprint"))
    return Origin(run, data, fingerprint, float(share) if is_share else None)


def _word(value: Any) -> str:
    """A name out of a file as one line of text; '' for what is no text."""
    return " ".join(value.split())[:_WORD] if isinstance(value, str) else ""


def _in_words(origin: Origin, data: str) -> str:
    """What a training learned from, as said beside figures on the data set of this name."""
    if not origin.data:
        return "of which nothing is known here"
    if origin.data != data:
        return f"which learned from '{origin.data}'"
    if not origin.fingerprint:
        return f"which learned from '{data}', with which split is not known"
    return f"which learned from another split or version of '{data}'"


def _there(store: RunStore, names: Iterable[str]) -> list[Run]:
    found = []
    for name in names:
        try:
            found.append(store.get(name))
        except RunError:
            continue
    return found


def _once(origins: Iterable[Origin]) -> list[Origin]:
    return list(dict.fromkeys(origins))
