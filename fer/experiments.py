"""Runs that are compared with each other: their names, which can be compared, and the groups that differ by seed only.

All of it reads runs as they are; nothing here is written to the store. Fractions are 0 to 1, losses natural log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fer.runs import Run

_NOT_A_CHANGE = ("seed", "data.name")
_CHANGES_SHOWN = 2


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run that no other of them has: its own, with the id behind it where two share one."""
    count = Counter(r.name for r in runs)
    return [r.name if count[r.name] == 1 else f"{r.name} ({r.id})" for r in runs]


def data_key(run: Run) -> tuple[str, float | None]:
    """Runs with the same key were validated on the same pictures: the data's fingerprint and the share held out."""
    fraction = run.config.data.val_fraction if run.config else None
    return run.fingerprint or run.data_name, fraction or None


def data_label(run: Run) -> str:
    """The data a run's figures are of: 'fer2013', 'sample (synthetic)', 'fer2013, 20 % of train held out'."""
    held_out = data_key(run)[1]
    return (
        run.data_name
        + (" (synthetic)" if run.synthetic else "")
        + (f", {100 * held_out:g} % of train held out" if held_out else "")
    )


def by_data(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs in lists whose figures can be compared: the same data and the same validation pictures."""
    found: dict[Any, list[Run]] = {}
    for run in runs:
        found.setdefault(data_key(run), []).append(run)
    return list(found.values())


@dataclass(frozen=True)
class Group:
    """One experiment: runs of one config and one data set that differ by seed. `label` is unique among its group's set.

    `runs` are ordered by seed, then by age; never empty. A single run is a group of one.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def key(self) -> str:
        """The id of its first run, which names the group in a URL."""
        return self.runs[0].id

    @property
    def recipe(self) -> str:
        return self.runs[0].recipe

    @property
    def data_key(self) -> tuple[str, float | None]:
        return data_key(self.runs[0])

    @cached_property
    def by_seed(self) -> dict[int, Run]:
        """One run a seed, so that a repetition counts once: a finished one before others, then the longer, then the newer."""
        best: dict[int, Run] = {}
        for run in sorted(self.runs, key=lambda r: (r.state == "finished", len(r.metrics), r.created)):
            best[run.config.seed if run.config else 0] = run
        return dict(sorted(best.items()))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.by_seed)

    @property
    def n(self) -> int:
        """The number of different seeds."""
        return len(self.by_seed)


def groups(runs: Sequence[Run], *, single: bool = False) -> list[Group]:
    """The experiments among these runs, in the order of their first run; `single`: each run by itself.

    Runs in state `broken` are left out. Data that changed under the same name makes another group.
    """
    usable = [r for r in runs if r.config]
    if single:
        return [Group(label, (run,)) for run, label in zip(usable, labels(usable), strict=True)]
    found: dict[Any, list[Run]] = {}
    for run in usable:
        assert run.config
        key = (run.config.experiment, data_key(run), run.record.get("kind", "run"))
        found.setdefault(key, []).append(run)
    members = [tuple(sorted(g, key=lambda r: (r.config.seed if r.config else 0, r.created))) for g in found.values()]
    return [Group(label, g) for g, label in zip(members, _group_labels(members), strict=True)]


def _group_labels(members: Sequence[tuple[Run, ...]]) -> list[str]:
    """The run's name for a group of one, else what the runs share; the first id behind it where two would be alike."""
    changes = [_changes(g[0]) for g in members]
    common = set.intersection(*(set(c) for c in changes)) if len(changes) > 1 else set()
    names = [
        g[0].name if len(g) == 1 else _shared_name(g[0], [c for c in own if c not in common])
        for g, own in zip(members, changes, strict=True)
    ]
    count = Counter(names)
    return [n if count[n] == 1 else f"{n} ({g[0].id})" for n, g in zip(names, members, strict=True)]


def _changes(run: Run) -> list[str]:
    """What was changed of the recipe, as 'optim.lr=0.0005'; not the data, the seed or where it ran."""
    return [
        f"{path}={'none' if value is None else value}"
        for path, value in run.changes.items()
        if path not in _NOT_A_CHANGE and not path.startswith("runtime.")
    ]


def _shared_name(run: Run, changes: Sequence[str]) -> str:
    """The recipe and what sets the group apart: 'baseline, optim.lr=0.0005'."""
    left = len(changes) - _CHANGES_SHOWN
    return ", ".join([run.recipe, *changes[:_CHANGES_SHOWN], *([f"{left} more"] if left > 0 else [])])
