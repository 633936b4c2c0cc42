"""A comparison of runs as one self-contained HTML file, as Markdown, or as flat JSON.

The HTML file works from disk without a network: plotly.js is in it once, and its content security policy lets nothing
else load or run. Names and notes of runs are anybody's text: the templates escape them, and figures stand in a JSON block
in which no character can end a script.
"""

from __future__ import annotations

import html
import json
import math
import re
import secrets
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import fer
from fer.config import Config
from fer.data.dataset import dataset_path, load
from fer.diagnosis import Finding, Remedy, Together, diagnose, diagnose_together
from fer.errors import DataError, RunError
from fer.experiments import (
    NOT_USED,
    Group,
    band,
    data_key,
    data_label,
    figures,
    groups,
    says_who_or_where,
    settings_notes,
    settings_rows,
    several,
)
from fer.plots import comparison as plots
from fer.plots import curves
from fer.plots.schedule import lr_curves
from fer.plots.style import PLOT_CONFIG, marks
from fer.recipes import RECIPES, changes_from
from fer.runs import Run
from fer.verdicts import MIN_SEEDS, Verdict, correction, verdicts

_TEMPLATES = Path(__file__).parent / "templates"
_CURVES = ("loss", "top1", "macro_f1", "lr")
_COLUMNS = 5  # groups side by side in one table, so that it fits a printed page
_MOMENTS = 6  # epochs at which the schedules are told
_NOT_A_CHANGE = ("seed", "data.name")
_HOW = (
    "Over seeds: t test, paired by seed where at least three are shared. On pictures, where there are fewer seeds or those of "
    "one began from the same weights: exact McNemar test, interval by BCa bootstrap."
)


@dataclass(frozen=True)
class Step:
    """Something to try next: what, why, after which finding ('' for none), and the command that does it, or several lines."""

    title: str
    why: str
    after: str
    command: str


@dataclass(frozen=True)
class Comparison:
    """What a report says, computed from the runs. findings: by the id of the run that speaks for each group; split: of the verdicts."""

    groups: tuple[Group, ...]
    baseline: Group
    verdicts: tuple[Verdict, ...]
    findings: Mapping[str, tuple[Finding, ...]]
    together: tuple[Together, ...]
    split: str = "val"

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """`fer.experiments.figures` of each group against the baseline."""
        return [figures(g, self.baseline) for g in self.groups]

    @property
    def correction(self) -> str:
        """How p values were corrected; '' where there was one comparison."""
        return correction(self.verdicts)

    @cached_property
    def ranked(self) -> list[Group]:
        """The groups that can be compared with the baseline and have a figure, best first."""
        able = [(r["best_val_top1"], g) for r, g in zip(self.rows, self.groups, strict=True) if r["comparable"]]
        return [g for _, g in sorted(((t, g) for t, g in able if t is not None), key=lambda pair: -pair[0])]

    @property
    def headlines(self) -> list[str]:
        """Which group reaches the highest val top-1: one sentence for each data set, the baseline's first; none before an epoch."""
        parts: dict[Any, list[tuple[float, dict[str, Any], Group]]] = {self.baseline.data_key: []}
        for group, row in zip(self.groups, self.rows, strict=True):
            if row["best_val_top1"] is not None:
                parts.setdefault(group.data_key, []).append((row["best_val_top1"], row, group))
        told = [part for part in parts.values() if part]
        sentences = []
        for part in told:
            top1, row, best = max(part, key=lambda entry: entry[0])
            where = f"On {data_label(best.runs[0])}: " if len(told) > 1 else ""
            what = f"the highest val top-1: {_percent(top1)} %" if len(part) > 1 else f"{_percent(top1)} % val top-1"
            how = f", {several(best)}" if several(best) else f" in epoch {row['best_epoch']:g}"
            sentences.append(f"{where}{best.label} reaches {what}{how}")
        return sentences

    @cached_property
    def steps(self) -> list[Step]:
        """What to try next: seeds where they would make a verdict one on recipes, then of the best group and of the others
        the remedies, each once, and to resume what was still getting better."""
        seeds_tell = (
            v for v in self.verdicts if v.kind == "networks" and not (v.same_recipe or v.ensemble or v.one_start)
        )
        tested = {run_id for v in seeds_tell for run_id in v.runs}
        experiments = groups([r for g in self.groups for r in g.runs])
        few = [g for g in experiments if g.n < MIN_SEEDS and tested & {r.id for r in g.runs}]
        found = [_more_seeds(few)] if few else []
        seen = {g.recipe for g in self.groups}
        for group in [*self.ranked, *(g for g in self.groups if g not in self.ranked)]:
            run = speaker(group)
            for finding in self.findings[run.id]:
                after = f"{group.label}: {finding.title}"
                if finding.kind == "unfinished" and not finding.remedies and not run.not_resumed:
                    why = "trains the epochs that were planned"
                    found.append(Step(f"Resume {run.name}", why, after, f"python -m fer runs resume {run.id}"))
                for remedy in finding.remedies:
                    if (remedy.recipe or remedy.title) not in seen:
                        seen.add(remedy.recipe or remedy.title)
                        found.append(Step(remedy.title, remedy.why, after, command(run, remedy)))
        return found


def compare(
    runs: Sequence[Run], baseline: Run | None = None, *, grouped: bool = True, split: str = "val"
) -> Comparison:
    """Compare runs. baseline: among them or not; None: the first of recipe baseline, else the first of all.

    grouped: runs that differ by seed only are one group. Raises RunError where there is none, or one cannot be
    read, and for a split that is neither val nor test.
    """
    wanted = list({r.id: r for r in [*runs, *([baseline] if baseline else [])]}.values())
    if split not in ("val", "test"):
        raise RunError(f"There is no split '{split}' that runs are compared on. Choose val or test.")
    if not wanted:
        raise RunError("There is no run to compare. Name one or more; see: python -m fer runs list")
    for run in wanted:
        if run.config is None:
            raise RunError(f"Run '{run.id}' cannot be read: {'; '.join(run.problems)}. Leave it out.")
    made = groups(wanted, single=not grouped)
    chosen = baseline or next((r for r in wanted if r.recipe == "baseline"), wanted[0])
    base = next(g for g in made if chosen.id in {r.id for r in g.runs})
    return Comparison(
        groups=tuple(made),
        baseline=base,
        verdicts=tuple(verdicts(base, made, split=split)),
        findings={speaker(g).id: diagnose(speaker(g)) for g in made},
        together=diagnose_together(wanted),
        split=split,
    )


def speaker(group: Group) -> Run:
    """The run whose curves are diagnosed for its group: of those that have an epoch the one of median best top-1."""
    ranked = sorted(group.measured or group.by_seed.values(), key=lambda r: r.best["val_top1"] if r.best else -1.0)
    return ranked[len(ranked) // 2]


def command(run: Run, remedy: Remedy | None = None, *, seed: int | None = None) -> str:
    """The command line that trains this run again with a remedy, or another seed, and nothing else changed."""
    assert run.config
    recipe = run.recipe if run.recipe in RECIPES else "baseline"
    changes = changes_from(recipe, run.config)
    own = {p: v for p, v in changes.items() if p not in _NOT_A_CHANGE and not p.startswith("runtime.")}
    seed = changes.get("seed") if seed is None else seed
    wanted = dict(remedy.changes) if remedy else {}
    if remedy and recipe == "baseline" and not own and remedy.recipe and wanted == RECIPES[remedy.recipe].changes:
        recipe, wanted = remedy.recipe, {}
    words = ["python", "-m", "fer", "train", "--recipe", recipe, "--dataset", run.data_name]
    for assignment in Remedy("", "", {**own, **wanted}).assignments:
        words += ["--set", assignment]
    return shlex.join([*words, *(["--seed", str(seed)] if seed is not None else [])])


def _more_seeds(few: Sequence[Group]) -> Step:
    commands = []
    for group in few:
        missing = [s for s in range(group.n + MIN_SEEDS) if s not in group.seeds][: MIN_SEEDS - group.n]
        commands += [command(group.runs[0], seed=seed) for seed in missing]
    why = f"with {MIN_SEEDS} seeds of each, a verdict is about the recipes and not about single networks"
    return Step("More seeds", why, "", "\n".join(commands))


# --- the three forms -------------------------------------------------------------------------------------------------


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Flat rows for a program: `groups`, `verdicts`, `findings`, `together` and `steps`; fractions 0 to 1."""
    return {
        "baseline": comparison.baseline.label,
        "groups": comparison.rows,
        "verdicts": [_flat_verdict(v) for v in comparison.verdicts],
        "findings": [
            {
                "run": run_id,
                "kind": f.kind,
                "level": f.level,
                "title": f.title,
                "evidence": f.evidence,
                "epoch": f.epoch,
                "remedies": [{"title": r.title, "recipe": r.recipe, "set": r.assignments} for r in f.remedies],
            }
            for run_id, found in comparison.findings.items()
            for f in found
        ],
        "together": [
            {"kind": t.kind, "level": t.level, "sentence": t.sentence, "runs": list(t.runs)}
            for t in comparison.together
        ],
        "steps": [{"title": s.title, "why": s.why, "after": s.after, "command": s.command} for s in comparison.steps],
    }


def as_markdown(comparison: Comparison) -> str:
    """The tables and sentences, without figures."""
    text = _environment(markdown=True).get_template("report.md.jinja").render(**_told(comparison))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def as_html(comparison: Comparison) -> str:
    """The whole report as one HTML file of about 5 MB, of which plotly.js is nearly all."""
    charts = _charts(comparison)
    return _environment().get_template("report.html.jinja").render(
        **_told(comparison),
        nonce=secrets.token_urlsafe(16),
        plotly_js=Markup(get_plotlyjs()),
        charts={name: alt for name, (_, _, alt) in charts.items()},
        figures=_script_safe(
            {"config": PLOT_CONFIG}
            | {name: {"light": _drawn(light), "dark": _drawn(dark)} for name, (light, dark, _) in charts.items()}
        ),
    )  # fmt: skip


def _flat_verdict(v: Verdict) -> dict[str, Any]:
    low, high = v.interval or (None, None)
    return {
        "name": v.name,
        "baseline": v.baseline,
        "kind": v.kind,
        "difference": v.difference,
        "interval_low": low,
        "interval_high": high,
        "p": v.p,
        "p_corrected": v.p_corrected,
        "comparisons": v.comparisons,
        "n": v.n,
        "is_real": v.is_real,
        "split": v.split,
        "sentence": v.sentence,
        "reason": v.reason,
        "runs": ", ".join(v.runs),
    }


def _environment(*, markdown: bool = False) -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=not markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_markdown_safe if markdown else None,
    )
    made.filters |= {"percent": _percent, "points": _points, "number": _number, "figure": _figure, "code": _code}
    return made


def _drawn(figure: go.Figure) -> dict[str, Any]:
    """The figure as plain JSON values."""
    return json.loads(figure.to_json())


def _script_safe(value: Any) -> Markup:
    """JSON that can stand in a script block: no character of it can end the block or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _markdown_safe(value: Any) -> Any:
    """Text without what Markdown or HTML would act on, on one line; what is `Markup` stays as it is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return re.sub(r"([\\`*_{}\[\]<>|#&~])", r"\\\1", " ".join(value.split()))


def _code(text: str) -> Markup:
    """A command as it is, for Markdown's fenced block: it is made of settings, which hold no fence."""
    return Markup(text.replace("`", ""))


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def _points(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:+.2f}".replace("-", "−")


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


# --- what is told ----------------------------------------------------------------------------------------------------


def _told(comparison: Comparison) -> dict[str, Any]:
    """Everything that the templates show, as plain values."""
    return {
        "version": fer.__version__,
        "date": time.strftime("%Y-%m-%d %H:%M", time.localtime()),
        "baseline": comparison.baseline,
        "groups": comparison.groups,
        "speakers": {g.key: speaker(g) for g in comparison.groups},
        "headlines": comparison.headlines,
        "split": comparison.split,
        "how": f"In top-1 on {comparison.split}. {_HOW}",
        "verdicts": comparison.verdicts,
        "correction": comparison.correction,
        "together": comparison.together,
        "findings": [(g, comparison.findings[speaker(g).id]) for g in comparison.groups],
        "steps": comparison.steps,
        "data": _data(comparison.groups),
        "networks": _networks(comparison),
        "results": [_results(part, comparison.baseline.key) for part in _chunks(comparison.rows)],
        "classes": [table for part in _chunks(comparison.groups) if (table := _classes(part))],
        "confusions": [found for g in comparison.groups if (found := _confusion(g))],
        "common": _common(comparison.groups),
        "settings": [_differing(part, comparison.groups) for part in _chunks(comparison.groups)],
        "machines": [row for g in comparison.groups if not g.members for row in _machines(g)],
        "schedules": _schedules(comparison),
        "notes": [(r.name, r.notes.note) for g in comparison.groups for r in g.runs if r.notes.note.strip()],
        "remarks": list(dict.fromkeys(r.remark for g in comparison.groups for r in g.runs if r.remark)),
    }


def _chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[i : i + _COLUMNS] for i in range(0, len(items), _COLUMNS)]


def _results(rows: Sequence[Mapping[str, Any]], base: str) -> dict[str, Any]:
    """One column a group, base: the baseline's id; lines that nothing is known of are left out."""

    def with_std(row: Mapping[str, Any], key: str) -> str:
        std = row.get(f"{key}_std")
        return _percent(row[key]) + (f" ± {100 * std:.2f}" if std is not None else "")

    lines = [
        ("Seeds", lambda r: _number(r["n"])),
        ("Best val top-1, %", lambda r: with_std(r, "best_val_top1")),
        ("in epoch", lambda r: f"{r['best_epoch']:g}" if r["best_epoch"] is not None else "–"),
        ("Difference to the baseline, points", lambda r: "baseline" if r["id"] == base else _points(r["difference"])),
        ("Last val top-1, %", lambda r: with_std(r, "last_val_top1")),
        ("Train top-1 at the best epoch, %", lambda r: _percent(r["train_top1_at_best"])),
        ("Gap there, points", lambda r: _points(r["gap_at_best"])),
        ("Macro F1 there, %", lambda r: with_std(r, "val_macro_f1_at_best")),
        ("Test top-1, %", lambda r: with_std(r, "test_top1")),
        ("Lowest val loss", lambda r: _number(r["lowest_val_loss"], 3)),
        ("Last val loss", lambda r: _number(r["last_val_loss"], 3)),
        ("Last train loss", lambda r: _number(r["last_train_loss"], 3)),
        ("Calibration error, %", lambda r: _percent(r["ece"])),
        ("after temperature scaling, %", lambda r: _percent(r["ece_after"])),
        ("Parameters", lambda r: _number(r["num_params"])),
        ("Multiply-adds, millions", lambda r: _number(r["multiply_adds"] and r["multiply_adds"] / 1e6, 1)),
        ("Seconds an epoch", lambda r: _number(r["epoch_seconds_median"], 1)),
        ("Minutes in all", lambda r: _number(r["total_seconds"] and r["total_seconds"] / 60, 1)),
        (
            "Epochs trained",
            lambda r: "–" if r["epochs_done"] is None else f"{r['epochs_done']:g} of {r['epochs_asked']:g}",
        ),
        ("State", lambda r: r["state"]),
    ]
    table = [(name, [say(r) for r in rows]) for name, say in lines]
    return {
        "head": [r["label"] for r in rows],
        "lines": [(name, cells) for name, cells in table if set(cells) != {"–"}],
    }


def _classes(part: Sequence[Group]) -> dict[str, Any] | None:
    """Recall of each class on val, from the reports; None where no group has one."""
    reports = [speaker(g).report("val") or {} for g in part]
    tables = [r.get("per_class") if isinstance(r.get("per_class"), dict) else {} for r in reports]
    names = list(dict.fromkeys(name for t in tables for name in t))
    if not names:
        return None
    lines = []
    for name in names:
        of = [t.get(name) if isinstance(t.get(name), dict) else {} for t in tables]
        n = next((x["n"] for x in of if isinstance(x.get("n"), int)), None)
        lines.append((name, n, [_percent(x["recall"]) if isinstance(x.get("recall"), float) else "–" for x in of]))
    return {"head": [g.label for g in part], "lines": lines}


def _confusion(group: Group) -> dict[str, Any] | None:
    """What the group's speaker calls the val pictures of each class, as shares of the class; None without a whole report."""
    report = speaker(group).report("val") or {}
    classes, matrix = report.get("classes"), report.get("confusion_matrix")
    if not isinstance(classes, list) or not isinstance(matrix, list) or len(matrix) != len(classes):
        return None
    if not all(isinstance(row, list) and len(row) == len(classes) for row in matrix):
        return None
    if not all(isinstance(n, int | float) and 0 <= n < math.inf for row in matrix for n in row):
        return None
    names = [str(c) for c in classes]
    shares = [[n / sum(row) if sum(row) else 0.0 for n in row] for row in matrix]
    return {
        "label": group.label,
        "run": speaker(group).name,
        "classes": names,
        "lines": list(zip(names, shares, strict=True)),
    }


def _data(all_groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One entry for each data set and split that a figure in the report is of."""
    found: dict[Any, list[Group]] = {}
    for group in all_groups:
        found.setdefault(group.data_key, []).append(group)
    return [_data_entry(members) for members in found.values()]


def _data_entry(members: Sequence[Group]) -> dict[str, Any]:
    run = members[0].runs[0]
    counts = _counts(run)
    if not counts:  # what the report on val says, where the data set is not at hand
        reports = (r.report("val") or {} for g in members for r in g.runs)
        per_class = next((r["per_class"] for r in reports if isinstance(r.get("per_class"), dict)), {})
        val = {str(c): v["n"] for c, v in per_class.items() if isinstance(v, dict) and isinstance(v.get("n"), int)}
        counts = {"val": val} if val else {}
    return {
        "label": data_label(run),
        "fingerprint": run.fingerprint,
        "groups": [g.label for g in members],
        "note": " ".join(filter(None, (run.split_note, run.start_note))),
        "synthetic": run.synthetic,
        "splits": {split: sum(by_class.values()) for split, by_class in counts.items()},
        "lines": [
            (name, [by_class.get(name, 0) for by_class in counts.values()]) for name in next(iter(counts.values()), {})
        ],
    }


def _counts(run: Run) -> dict[str, dict[str, int]]:
    """Pictures by split and class of the very data that a run was trained on; empty where they are not at hand."""
    try:
        if not dataset_path(run.data_name).is_file():  # which reading the sample faces would draw
            return {}
        data = load(run.data_name).with_val_fraction(data_key(run)[1])
    except DataError:
        return {}
    return data.counts() if data.fingerprint == run.fingerprint else {}


def _networks(comparison: Comparison) -> list[dict[str, Any]]:
    """The distinct networks: layer table, sums, convolutions, and the groups that are made of each."""
    found: dict[str, dict[str, Any]] = {}
    for group, row in zip(comparison.groups, comparison.rows, strict=True):
        model = group.runs[0].model
        table = model.get("layers")  # shared by all who read it: copied before the shape is added in words
        layers = (
            [dict(x, shape=_shape(x["output_shape"])) for x in table if _whole(x)] if isinstance(table, list) else []
        )
        if not layers:
            continue
        entry = found.setdefault(json.dumps(layers), {"model": model, "layers": layers, "groups": [], "tops": []})
        entry["groups"].append(group.label)
        entry["tops"].append((group.label, row["best_val_top1"]))
    for entry in found.values():
        convolutions = [layer for layer in entry["layers"] if layer["kind"].startswith("Conv")]
        entry |= {
            "name": str(entry["model"].get("name", "network")),
            "input": _shape(entry["model"].get("input_shape") or []),
            "num_params": sum(layer["num_params"] for layer in entry["layers"]),
            "multiply_adds": sum(layer["multiply_adds"] for layer in entry["layers"]),
            "convolutions": convolutions,
            "conv_params": sum(layer["num_params"] for layer in convolutions),
            "conv_adds": sum(layer["multiply_adds"] for layer in convolutions),
        }
    return list(found.values())


def _whole(layer: Any) -> bool:
    kinds = {"name": str, "kind": str, "detail": str, "output_shape": list, "num_params": int, "multiply_adds": int}
    return isinstance(layer, dict) and all(isinstance(layer.get(key), kind) for key, kind in kinds.items())


def _shape(shape: Iterable[Any]) -> str:
    return " × ".join(str(n) for n in shape)


def _common(all_groups: Sequence[Group]) -> list[dict[str, str]]:
    """The settings that all runs share and use; not seed and place."""
    runs = [r for g in all_groups for r in g.runs if not r.members]
    if not runs:
        return []
    shared = [
        r for r in settings_rows(runs, everything=True) if not r["differs"] and not says_who_or_where(r["setting"])
    ]
    values = [(row, row[f"run:{runs[0].id}"]) for row in shared]
    return [
        {"setting": row["setting"], "value": value, "meaning": row["meaning"]}
        for row, value in values
        if value != NOT_USED
    ]


def _differing(part: Sequence[Group], all_groups: Sequence[Group]) -> dict[str, Any]:
    """The settings in which the groups differ, one column a group."""
    rows = settings_rows([g.runs[0] for g in all_groups])
    kept = [row for row in rows if not says_who_or_where(row["setting"])]
    return {
        "head": [g.label for g in part],
        "lines": [(row["setting"], [row[f"run:{g.runs[0].id}"] for g in part], row["meaning"]) for row in kept],
    }


def _machines(group: Group) -> list[dict[str, str]]:
    """Where the runs of a group were computed, and in which precision: a row each, with the seeds that it holds for."""
    seeds: dict[tuple[str, ...], list[int]] = {}
    for seed, run in group.by_seed.items():
        seeds.setdefault(_where(run), []).append(seed)
    names = ("device", "threads", "precision", "torch")
    return [
        {"label": group.label, "seeds": ", ".join(map(str, those)), **dict(zip(names, where, strict=True))}
        for where, those in seeds.items()
    ]


def _where(run: Run) -> tuple[str, ...]:
    """Device, threads, precision and version of torch, – for what is not recorded."""
    status, versions = run.status, run.status.get("versions")
    torch = versions.get("torch") if isinstance(versions, dict) else None
    found = (status.get("device_name") or status.get("device"), status.get("threads"), status.get("precision"), torch)
    return tuple(str(value or "–") for value in found)


def _schedules(comparison: Comparison) -> dict[str, Any]:
    """The learning rate of each group at some epochs, from its metrics; an ensemble has none."""
    rates = {g.key: band(g, "lr").mean for g in comparison.groups if not g.members}
    last = max((len(r) for r in rates.values()), default=0)
    moments = sorted({1 + round(i * (last - 1) / (_MOMENTS - 1)) for i in range(_MOMENTS)}) if last else []
    return {
        "epochs": moments,
        "lines": [
            (
                group.label,
                group.runs[0].config.schedule.name if group.runs[0].config else "–",
                [_figure(rates[group.key][e - 1]) if e <= len(rates[group.key]) else "–" for e in moments],
                row["best_val_top1"],
            )
            for group, row in zip(comparison.groups, comparison.rows, strict=True)
            if group.key in rates
        ],
    }


def _charts(comparison: Comparison) -> dict[str, tuple[go.Figure, go.Figure, str]]:
    """`{name: (light, dark, words)}`; what has nothing to show is left out."""
    drawn = [g for g in comparison.groups if g.measured]
    found = {}
    if drawn:
        notes, colours = settings_notes(drawn), marks([(g.key, g.recipe) for g in drawn])
        lines = [curves.Line(g, mark, notes[g.key]) for g, mark in zip(drawn, colours, strict=True)]
        view = curves.View()
        for metric in _CURVES:
            light, dark = (curves.comparison(lines, metric, view, dark=d, legend=True) for d in (False, True))
            found[metric] = light, dark, curves.comparison_in_words(lines, metric, view)
    if any(v.difference is not None for v in comparison.verdicts):
        found["differences"] = (
            plots.differences(comparison.verdicts, dark=False),
            plots.differences(comparison.verdicts, dark=True),
            plots.differences_in_words(comparison.verdicts),
        )
    planned = _planned([g for g in comparison.groups if not g.members])
    if planned:
        configs = {label: (group.recipe, config) for label, (group, config) in planned.items()}
        steps = {label: _steps(group) for label, (group, _) in planned.items()}
        light, dark = (lr_curves(configs, steps, dark=dark) for dark in (False, True))
        said = "The learning rate that each schedule plans over its epochs; the table holds the rates that were used."
        found["schedules"] = light, dark, said
    return found


def _planned(trained: Sequence[Group]) -> dict[str, tuple[Group, Config]]:
    """Groups and their settings by a name for a legend: the label cut short, or whole where two would be alike."""
    cut = [curves.short(g.label) for g in trained]
    names = [name if cut.count(name) == 1 else g.label for name, g in zip(cut, trained, strict=True)]
    found = zip(names, trained, strict=True)
    return {html.escape(name): (g, config) for name, g in found if (config := g.runs[0].config)}


def _steps(group: Group) -> int:
    return int(group.runs[0].status.get("steps_per_epoch") or 100)
