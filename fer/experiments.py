"""Runs that are compared with each other: their names, which can be compared, and the groups that differ by seed only.

All of it reads runs as they are; nothing here is written to the store. Fractions are 0 to 1, losses natural log.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

from fer.config import SETTINGS, Config, flatten, used
from fer.runs import Run
from fer.significance import Spread, spread

_NOT_A_CHANGE = ("seed", "data.name")
_CHANGES_SHOWN = 2
_NOTED = 4
NOT_USED = "–"
BandKind = Literal["std", "interval", "range"]
Axis = Literal["epoch", "step", "seconds"]


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
    def members(self) -> tuple[str, ...]:
        """The ids of the runs that an ensemble, a group of its own, is made of; empty for what was trained."""
        return self.runs[0].members

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

    @cached_property
    def measured(self) -> tuple[Run, ...]:
        """The runs that its figures are of: one a seed, where an epoch has ended."""
        return tuple(r for r in self.by_seed.values() if r.metrics)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.by_seed)

    @property
    def n(self) -> int:
        """The number of different seeds."""
        return len(self.by_seed)


# --- curves ----------------------------------------------------------------------------------------------------------


def value_at(row: Mapping[str, Any], key: str) -> float:
    """One value of an epoch's row; `gap` is train minus val top-1, `loss_gap` val minus train loss."""
    if key == "gap":
        return row["train_top1"] - row["val_top1"]
    if key == "loss_gap":
        return row["val_loss"] - row["train_loss"]
    return row[key]


def positions(run: Run, axis: Axis = "epoch") -> list[float]:
    """Where each epoch's row stands on an axis: epochs, optimizer steps or seconds of training since the start.

    A run whose status does not say its steps an epoch has them counted as epochs.
    """
    if axis == "seconds":
        return list(accumulate(row["epoch_seconds"] for row in run.metrics))
    steps = int(run.status.get("steps_per_epoch") or 1) if axis == "step" else 1
    return [row["epoch"] * steps for row in run.metrics]


@dataclass(frozen=True)
class Band:
    """One figure of several runs, epoch by epoch: tuples of equal length.

    n: how many runs reached the epoch, so that a mean whose runs grow fewer shows it; low and high are None where n is 1.
    """

    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    n: tuple[int, ...]


def band(group: Group, key: str, *, kind: BandKind = "std", axis: Axis = "epoch") -> Band:
    """Mean and band over a group's seeds at each epoch that one of them reached.

    kind: `std` one standard deviation to each side, `interval` the 95 % t interval of the mean, `range` lowest to highest.
    axis: `seconds` adds up the mean seconds of each epoch, so that it goes on where a slow seed ends. key: of `metrics.jsonl`,
    or `gap`, `loss_gap`.
    """
    runs = group.measured
    places = [positions(r, axis) for r in runs]
    lengths, points = [], []
    for i in range(max((len(r.metrics) for r in runs), default=0)):
        there = [(r, p) for r, p in zip(runs, places, strict=True) if i < len(r.metrics)]
        lengths.append(statistics.fmean(p[i] - (p[i - 1] if i else 0) for _, p in there))
        points.append(spread([value_at(r.metrics[i], key) for r, _ in there]))
    edges = [_edges(p, kind) for p in points]
    return Band(
        x=tuple(accumulate(lengths)),
        mean=tuple(p.mean for p in points),
        low=tuple(low for low, _ in edges),
        high=tuple(high for _, high in edges),
        n=tuple(p.n for p in points),
    )


def _edges(of: Spread, kind: BandKind) -> tuple[float | None, float | None]:
    if of.std is None:
        return None, None
    if kind == "range":
        return of.minimum, of.maximum
    return (of.mean - of.std, of.mean + of.std) if kind == "std" else (of.low, of.high)


# --- figures ---------------------------------------------------------------------------------------------------------

# Each of one run, None where it is not known; a group shows the mean over its seeds.
_FIGURES: dict[str, Callable[[Run], float | None]] = {
    "best_val_top1": lambda r: _of(r.best, "val_top1"),
    "best_epoch": lambda r: _of(r.best, "epoch"),
    "last_val_top1": lambda r: _of(r.last, "val_top1"),
    "train_top1_at_best": lambda r: _of(r.best, "train_top1"),
    "gap_at_best": lambda r: _of(r.best, "gap"),
    "lowest_val_loss": lambda r: min((row["val_loss"] for row in r.metrics), default=None),
    "last_val_loss": lambda r: _of(r.last, "val_loss"),
    "last_train_loss": lambda r: _of(r.last, "train_loss"),
    "last_train_top1": lambda r: _of(r.last, "train_top1"),
    "val_macro_f1_at_best": lambda r: _of(r.best, "val_macro_f1"),
    "test_top1": lambda r: _reported(r, "test", "top1"),
    "ece": lambda r: _calibrated(r, "ece_before"),
    "ece_after": lambda r: _calibrated(r, "ece_after"),
    "temperature": lambda r: _calibrated(r, "temperature"),
    "num_params": lambda r: r.model.get("num_params"),
    "multiply_adds": lambda r: r.model.get("multiply_adds"),
    "epoch_seconds_median": lambda r: r.epoch_seconds,
    "total_seconds": lambda r: math.fsum(row["epoch_seconds"] for row in r.metrics) if r.metrics else None,
    "epochs_done": lambda r: len(r.metrics),
    "epochs_asked": lambda r: r.epochs,
}
_WITH_SPREAD = ("best_val_top1", "last_val_top1", "test_top1", "val_macro_f1_at_best")
_WHOLE = ("best_epoch", "num_params", "multiply_adds", "epochs_done", "epochs_asked")
_OF_REPORTS = ("test_top1", "ece", "ece_after", "temperature")  # what a seed has once it was evaluated
_OF_TRAINING = ("best_epoch", "epoch_seconds_median", "epochs_done", "epochs_asked")  # none of an ensemble


def figures(group: Group, baseline: Group | None = None) -> dict[str, Any]:
    """One flat row, in the units of the files: fractions 0 to 1, seconds, natural log; None where nothing is known.

    Of several seeds the mean (`best_epoch`: the median), one run a seed, with `_std`, `_low` and `_high` (95 % t interval) for
    the figures of merit, over the `n` in which an epoch has ended; None where not all of these were evaluated. An ensemble
    has no seed and no epochs. `difference` is in best val top-1 against the baseline, None for itself and where the data or
    the split differ: `comparable` says which.
    """
    runs = group.measured or tuple(group.by_seed.values())
    left_out = _OF_TRAINING if group.members else ()
    row: dict[str, Any] = {"label": group.label}
    for name, of_run in _FIGURES.items():
        values = [float(v) for v in (of_run(r) for r in runs) if v is not None and name not in left_out]
        if name in _OF_REPORTS and len(values) < len(runs):
            values = []
        row[name] = _middle(name, values)
        if name in _WITH_SPREAD:
            of = spread(values) if values else None
            row |= {f"{name}_{part}": getattr(of, part, None) for part in ("std", "low", "high")}
    states = list(dict.fromkeys(r.state for r in group.by_seed.values()))
    row |= {
        "n": None if group.members else len(group.measured),
        "seeds": "" if group.members else ", ".join(map(str, group.seeds)),
        "data": data_label(group.runs[0]),
        "state": ", ".join(states),
        "recipe": group.recipe,
        "id": group.key,
        "ids": ", ".join(r.id for r in group.runs),
    }
    if baseline:
        mine, theirs = row["best_val_top1"], best_top1(baseline)
        row["comparable"] = group.data_key == baseline.data_key
        known = row["comparable"] and group.key != baseline.key and mine is not None and theirs is not None
        row["difference"] = mine - theirs if known else None
    return row


def _middle(name: str, values: Sequence[float]) -> float | int | None:
    """The mean (of epochs: the median), a whole number where it is one by nature."""
    if not values:
        return None
    middle = statistics.median(values) if name == "best_epoch" else statistics.fmean(values)
    return int(middle) if name in _WHOLE and middle == int(middle) else middle


def best_top1(group: Group) -> float | None:
    """The best val top-1, 0 to 1; of several seeds the mean; None where no epoch has ended."""
    tops = [float(r.best["val_top1"]) for r in group.measured if r.best]
    return statistics.fmean(tops) if tops else None


def several(group: Group) -> str:
    """What its figures are of where it is not one training: 'mean of 3 seeds', '2 networks together'; else ''."""
    if group.members:
        return f"{len(group.members)} networks together"
    return f"mean of {len(group.measured)} seeds" if len(group.measured) > 1 else ""


def _of(row: Mapping[str, Any] | None, key: str) -> float | None:
    return value_at(row, key) if row else None


def _reported(run: Run, split: str, key: str) -> float | None:
    value = (run.report(split) or {}).get(key)
    return value if isinstance(value, int | float) else None


def _calibrated(run: Run, key: str) -> float | None:
    found = (run.report("val") or {}).get("calibration")
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, int | float) else None


def settings_rows(runs: Sequence[Run], *, everything: bool = False) -> list[dict[str, str]]:
    """One row a setting, as text: `setting`, `differs` ('≠' or ''), `run:<id>` for each readable run, `meaning`.

    Those that differ, or all of them. '–' stands for a setting that the run's other settings do not use, such as the factor of
    a schedule that is constant. An ensemble has members instead of settings: a first row names them.
    """
    readable = [r for r in runs if r.config]
    found = {r.id: settings_in_effect(r.config) for r in readable if r.config and not r.members}
    texts = {run_id: {path: setting_text(value) for path, value in of.items()} for run_id, of in found.items()}
    rows = []
    if len(texts) < len(readable):
        members = {f"run:{r.id}": ", ".join(r.members) or NOT_USED for r in readable}
        differs = "≠" if len(set(members.values())) > 1 else ""
        rows.append({"setting": "members", "differs": differs, **members, "meaning": "The runs that answer together."})
    for path in SETTINGS:
        differs = "≠" if len({of[path] for of in texts.values()}) > 1 else ""
        values = {f"run:{r.id}": texts[r.id][path] if r.id in texts else NOT_USED for r in readable}
        rows.append({"setting": path, "differs": differs, **values, "meaning": SETTINGS[path].help})
    return [row for row in rows if everything or row["differs"]]


def settings_in_effect(config: Config) -> dict[str, Any]:
    """`{dotted path: value}` of every setting, '–' where the others do not use it."""
    flat = flatten(config)
    return {path: value if used(path, flat) else NOT_USED for path, value in flat.items()}


def settings_notes(groups: Sequence[Group]) -> dict[str, str]:
    """`{group's key: the settings that set it apart}`, such as 'schedule.name step, schedule.gamma 0.5'; seed and place left out."""
    rows = [r for r in settings_rows([g.runs[0] for g in groups]) if not says_who_or_where(r["setting"])]
    notes = {}
    for group in groups:
        own = [f"{r['setting']} {r[f'run:{group.key}']}" for r in rows if r[f"run:{group.key}"] != NOT_USED]
        left = len(own) - _NOTED
        notes[group.key] = ", ".join([*own[:_NOTED], *([f"{left} more"] if left > 0 else [])])
    return notes


def says_who_or_where(path: str) -> bool:
    """Whether a setting tells only the seed, or where a run was computed."""
    return path == "seed" or path.startswith("runtime.")


def setting_text(value: Any) -> str:
    """A setting's value as a table shows it and a command line takes it."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return "none" if value is None else str(value)


def duration(seconds: float | None) -> str:
    """Seconds in the unit that fits: '8.4 s', '12 min', '3 h 05 min'; '-' where there are none."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def progress_in_words(run: Run) -> str:
    """Where a run that waits or trains stands: 'Epoch 3 of 25, step 40 of 449, ..., about 5 min left', or what it waits for."""
    status = run.status
    if run.state == "queued":
        if run.members:
            return f"Its {len(run.members)} members answer for all pictures of train and val"
        return "Waiting for a node of the Ray cluster" if run.on_ray else "Waiting for its turn"
    parts = [f"Epoch {min(status.get('epoch', 0) + 1, run.epochs)} of {run.epochs}"]
    if steps := status.get("steps_per_epoch"):
        parts.append(f"step {status.get('step', 0):,} of {steps:,}")
    loss, top1 = status.get("running_loss"), status.get("running_top1")
    if loss is not None and top1 is not None:
        parts.append(f"loss {loss:.3f}, top-1 {100 * top1:.1f} %")
    if status.get("images_per_sec"):
        parts.append(f"{status['images_per_sec']:,.0f} images/s")
    if run.seconds_left is not None:
        parts.append(f"about {duration(run.seconds_left)} left")
    return ", ".join(parts)


# --- groups ----------------------------------------------------------------------------------------------------------


def groups(runs: Sequence[Run], *, single: bool = False) -> list[Group]:
    """The experiments among these runs, in the order of their first run; `single`: each run by itself.

    Runs in state `broken` are left out. Data that changed under the same name makes another group; an
    ensemble is a group of its own.
    """
    usable = [r for r in runs if r.config]
    if single:
        return [Group(label, (run,)) for run, label in zip(usable, labels(usable), strict=True)]
    found: dict[Any, list[Run]] = {}
    for run in usable:
        found.setdefault((run.experiment, data_key(run)), []).append(run)
    members = [tuple(sorted(g, key=lambda r: (r.config.seed if r.config else 0, r.created))) for g in found.values()]
    return [Group(label, g) for g, label in zip(members, _group_labels(members), strict=True)]


def seeds_last(runs: Iterable[Run]) -> list[Run]:
    """The first run of each experiment, then the other seeds of them, each in the order given: a list to choose from."""
    first: dict[Any, list[Run]] = {}
    for run in runs:
        first.setdefault((run.experiment, data_key(run)), []).append(run)
    return [same[0] for same in first.values()] + [run for same in first.values() for run in same[1:]]


def leading(runs: Sequence[Run], most: int) -> list[Group]:
    """The experiments of the best runs, at most so many, by their best val top-1 (of several seeds the mean), the highest first.

    runs: best first. Labels are unique among them.
    """
    best: dict[Any, None] = {}
    for run in runs:
        if len(best) < most:
            best.setdefault((run.experiment, data_key(run)))
    found = groups([r for r in runs if (r.experiment, data_key(r)) in best])
    return sorted(found, key=lambda g: -(best_top1(g) or 0.0))


def recipe_results(recipe: str, runs: Sequence[Run], data: str | None = None) -> tuple[Group, Group | None] | None:
    """What a recipe brought: its finished runs in which nothing else was changed, and the baseline's on the same pictures.

    data: the name of the data set that is asked about; where the recipe has no such run on it, the one with the most seeds.
    None where it has none at all; the second is None for the baseline itself and where that has none.
    """
    found = max(_as_named(recipe, runs), key=lambda g: (g.runs[0].data_name == data, g.n), default=None)
    if found is None:
        return None
    baselines = _as_named("baseline", runs) if recipe != "baseline" else []
    return found, next((g for g in baselines if g.data_key == found.data_key), None)


def result_in_words(group: Group) -> str:
    """'54.52 ± 0.61 % (3 seeds)': its best val top-1, the mean and standard deviation where it has several seeds."""
    tops = [100 * float(r.best["val_top1"]) for r in group.measured if r.best]
    n = len(tops)
    std = f" ± {statistics.stdev(tops):.2f}" if n > 1 else ""
    return f"{statistics.fmean(tops):.2f}{std} % ({n} seed{'s' * (n > 1)})"


def _as_named(recipe: str, runs: Sequence[Run]) -> list[Group]:
    """The experiments of a recipe's finished runs in which nothing else was changed, one for each data set."""
    return groups([r for r in runs if r.recipe == recipe and r.state == "finished" and r.best and not _changes(r)])


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
