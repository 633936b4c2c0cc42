"""What the curves say: a diagnosis of each run, and of runs side by side, by rules that are written down.

Each finding carries its evidence in figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fer.config import differing
from fer.runs import Run
from fer.schedules import lr_at


@dataclass(frozen=True)
class Twins:
    """Two runs that say they differ and whose figures are the same to the last digit in every epoch.

    expected: only the schedule differs and it gave the same rates, so the figures have to be the same.
    """

    first: Run
    second: Run
    expected: bool


def twins(runs: Iterable[Run]) -> list[Twins]:
    """Runs of different settings or seeds with identical histories: one of them may not have run what its name says."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        if run.metrics and run.config:
            history = tuple((r["train_loss"], r["train_top1"], r["val_loss"], r["val_top1"]) for r in run.metrics)
            groups.setdefault(history, []).append(run)
    return [t for first, *others in groups.values() for second in others if (t := _twins(first, second))]


def _twins(first: Run, second: Run) -> Twins | None:
    """None where the two are a repetition: the same settings and seed give the same figures."""
    assert first.config and second.config
    differ = {p for p in differing([first.config, second.config]) if not p.startswith("runtime.")}
    if not differ and first.recipe == second.recipe:
        return None
    schedule_only = all(p.startswith("schedule.") or p == "train.epochs" for p in differ)
    return Twins(first, second, schedule_only and _same_rates(first, second))


def _same_rates(first: Run, second: Run) -> bool:
    """Whether the settings of both ask for the same learning rates over the epochs that were trained.

    What `metrics.jsonl` says of the rates is not asked: it is what is in doubt.
    """
    assert first.config and second.config
    steps = int(first.status.get("steps_per_epoch") or 100)
    losses = [r["val_loss"] for r in first.metrics]
    for epoch in range(len(losses)):
        for step in {0, steps // 3, 2 * steps // 3, steps - 1}:
            at = (epoch * steps + step, steps, losses[:epoch])
            if lr_at(first.config, *at) != lr_at(second.config, *at):
                return False
    return True
