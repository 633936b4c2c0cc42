"""Is it real? One verdict for each group of runs against a baseline, in a sentence that a student understands.

Where both have at least three finished seeds, the verdict is about the *recipes*: the t test over seeds. With fewer, or where the
seeds of one began from the same trained weights, it is about *two networks*, one of each, on the same pictures: the exact
McNemar test on their saved logits. A verdict over several comparisons is corrected for their number. Where data or split differ,
or nothing was saved to compare, it is refused, and says why.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fer.errors import RunError
from fer.experiments import Group, data_label
from fer.runs import Run
from fer.significance import Difference, holm, match_pictures, paired_by_seed, paired_top1, welch

MIN_SEEDS = 3
MIN_PICTURES = 30
MIN_SHARE = 0.5
ALPHA = 0.05
_STALE = 0.005  # saved logits whose top-1 is further than this from the best epoch's are of another epoch


@dataclass(frozen=True)
class Verdict:
    """`name` against `baseline` on a split, in top-1, first minus baseline, fractions 0 to 1.

    kind: `recipes` over seeds, `networks` on the same pictures, or `refused`, with the reason in `reason` and no figures.
    n: pictures, or seeds (not `paired`: the fewer of the two). p_corrected: after Holm's correction for `comparisons`;
    `is_real`: it is below 0.05, and the p of the sentence. seeds: how many each of the two has. networks: what the
    sentence calls the two that were tested. same_recipe: they have the same settings; same_seed: and the same seed.
    ensemble: one of them is several networks together. one_start: the names of those whose seeds all began from the
    weights of one run, so that no number of seeds makes it a verdict on recipes. runs: the ids that were compared.
    sentence: what a reader needs to know, the reason where it is refused.
    """

    kind: Literal["recipes", "networks", "refused"]
    name: str
    baseline: str
    sentence: str = ""
    reason: str = ""
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_corrected: float | None = None
    comparisons: int = 1
    n: int = 0
    is_real: bool = False
    paired: bool = True
    seeds: tuple[int, int] = (0, 0)
    networks: tuple[str, str] = ("", "")
    same_recipe: bool = False
    same_seed: bool = False
    ensemble: bool = False
    one_start: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    split: str = "val"


@dataclass(frozen=True)
class SavedLogits:
    """What `logits-<split>.npz` holds: logits (N, classes) float, labels (N,) int, hashes (N,) uint64. temperature: the run's,
    by which its logits are divided wherever probabilities are shown."""

    logits: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    temperature: float = 1.0

    @property
    def right(self) -> np.ndarray:
        """(N,) bool: whether the most probable class is the true one."""
        return self.logits.argmax(axis=1) == self.labels


def read_logits(run: Run, split: str = "val") -> SavedLogits:
    """The logits that `evaluate` saved. Raises RunError where there are none, they are damaged, or of another epoch."""
    path = run.path / f"logits-{split}.npz"
    again = _how_to_save(run, split)
    try:
        with np.load(path, allow_pickle=False) as file:
            saved = SavedLogits(file["logits"], file["labels"], file["hashes"], run.temperature())
    except FileNotFoundError:
        raise RunError(f"{run.name} has no saved predictions on {split}. {again}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{run.name}: the saved predictions on {split} are damaged ({error}). {again}") from error
    n = len(saved.labels) if saved.labels.ndim == 1 else -1
    if saved.logits.ndim != 2 or not len(saved.logits) == n == saved.hashes.size or not np.isfinite(saved.logits).all():
        raise RunError(f"{run.name}: the saved predictions on {split} are damaged (odd shapes or numbers). {again}")
    far = split == "val" and run.best and n and abs(saved.right.mean() - run.best["val_top1"]) > _STALE
    if far or run.is_outdated(run.kept_report(split)):
        raise RunError(f"{run.name}: the saved predictions on {split} are not those of its best epoch. {again}")
    return saved


def _how_to_save(run: Run, split: str) -> str:
    """What to do where saved logits are missing or of no use."""
    command = f"python -m fer evaluate {run.id} --split {split}"
    if run.state in ("queued", "running"):
        when = "when it has finished"
        return f"They are saved {when}." if split == "val" else f"Write them {when}: {command}"
    if run.has_weights:
        return f"Write them with: {command}"
    go_on = "" if run.not_resumed else f" Go on with it: python -m fer runs resume {run.id}"
    return f"It has no weights to make them with.{go_on}"


def top1_of(run: Run, split: str = "val") -> float | None:
    """The top-1 of the run's best weights: on val of its best epoch, on other splits of its report; None where it is not known."""
    if split == "val" and run.best:
        return float(run.best["val_top1"])
    return (run.report(split) or {}).get("top1")


def verdicts(baseline: Group, others: Iterable[Group], *, split: str = "val") -> list[Verdict]:
    """One verdict for each of `others` that is not the baseline, in their order, corrected for their number.

    The interval over seeds is by t, over pictures by BCa.
    """
    raw = [_verdict(g, baseline, split) for g in others if g.key != baseline.key]
    tested = [v for v in raw if v.p is not None]
    corrected = iter(holm([v.p for v in tested if v.p is not None]))
    return [v if v.p is None else _said(replace(v, p_corrected=next(corrected), comparisons=len(tested))) for v in raw]


def correction(found: Iterable[Verdict]) -> str:
    """How the p values in the sentences of these verdicts were corrected, said once for all; '' where there was one comparison."""
    n = max((v.comparisons for v in found), default=1)
    return f"The p values are corrected for {n} comparisons by Holm's method; the intervals are not." if n > 1 else ""


def _verdict(group: Group, baseline: Group, split: str) -> Verdict:
    same = group.runs[0].experiment == baseline.runs[0].experiment
    refused = Verdict(
        "refused",
        group.label,
        baseline.label,
        split=split,
        seeds=(group.n, baseline.n),
        same_recipe=same,
        ensemble=bool(group.members or baseline.members),
        one_start=tuple(g.label for g in (group, baseline) if _of_one_start(g)),
    )
    if group.data_key != baseline.data_key:
        return _refuse(refused, _other_data(group.runs[0], baseline.runs[0], refused))
    ours, theirs = _finished(group, split), _finished(baseline, split)
    if min(len(ours), len(theirs)) >= MIN_SEEDS and not refused.one_start:
        shared = ours.keys() & theirs.keys()
        paired = len(shared) >= MIN_SEEDS
        of = paired_by_seed(ours, theirs) if paired else welch(list(ours.values()), list(theirs.values()))
        used = ((group, shared if paired else ours), (baseline, shared if paired else theirs))
        ids = [g.by_seed[seed].id for g, seeds in used for seed in sorted(seeds)]
        return _filled(replace(refused, seeds=(len(ours), len(theirs))), "recipes", of, ids, paired=paired)
    ours_run, theirs_run = _one_of_each(group, baseline, split)
    try:
        of = _on_the_same_pictures(ours_run, theirs_run, split)
    except RunError as error:
        return _refuse(refused, str(error))
    tested = replace(
        refused,
        networks=(_network(group, ours_run), _network(baseline, theirs_run)),
        same_seed=_seed(ours_run) == _seed(theirs_run),
    )
    return _filled(tested, "networks", of, [ours_run.id, theirs_run.id], paired=True)


def _of_one_start(group: Group) -> bool:
    """Whether its seeds all began from the weights of one run: they say how far continuations lie apart, not trainings."""
    config = group.runs[0].config
    return bool(config and config.model.from_run)


def _finished(group: Group, split: str) -> dict[int, float]:
    """`{seed: top-1}` of the runs that were trained to their end."""
    scored = {seed: top1_of(run, split) for seed, run in group.by_seed.items() if run.state == "finished"}
    return {seed: value for seed, value in scored.items() if value is not None}


def _one_of_each(group: Group, baseline: Group, split: str) -> tuple[Run, Run]:
    """The first two with the same seed and saved logits; else the first of each that has them; else the first of each."""

    def ready(g: Group) -> dict[int, Run]:
        saved = {s: r for s, r in g.by_seed.items() if (r.path / f"logits-{split}.npz").is_file()}
        return {s: r for s, r in saved.items() if not r.is_outdated(r.kept_report(split))} or saved or g.by_seed

    ours, theirs = ready(group), ready(baseline)
    both = sorted(ours.keys() & theirs.keys())
    first, second = (both[0], both[0]) if both else (min(ours), min(theirs))
    return ours[first], theirs[second]


def _network(group: Group, run: Run) -> str:
    """The group's label, and of several runs the one that was tested: 'baseline (run baseline-s1)'."""
    return group.label if len(group.runs) == 1 else f"{group.label} (run {run.name})"


def _seed(run: Run) -> int:
    return run.config.seed if run.config else 0


def _on_the_same_pictures(first: Run, second: Run, split: str) -> Difference:
    """Raises RunError where there are no logits, or too few pictures in common."""
    a, b = read_logits(first, split), read_logits(second, split)
    in_a, in_b = match_pictures(a.hashes, a.labels, b.hashes, b.labels)
    larger = max(len(a.labels), len(b.labels))
    if len(in_a) < MIN_PICTURES or len(in_a) < MIN_SHARE * larger:
        raise RunError(
            f"{first.name} and {second.name} have only {len(in_a):,} of {larger:,} {split} pictures in common; a verdict needs half of them and at least {MIN_PICTURES}."
        )
    return paired_top1(a.right[in_a], b.right[in_b])


# --- in words --------------------------------------------------------------------------------------------------------


def _refuse(verdict: Verdict, reason: str) -> Verdict:
    return replace(verdict, reason=reason, sentence=f"No verdict: {reason}")


def _filled(verdict: Verdict, kind: str, of: Difference, ids: Sequence[str], *, paired: bool) -> Verdict:
    return replace(
        verdict, kind=kind, difference=of.value, interval=(of.low, of.high), p=of.p, n=of.n, paired=paired, runs=tuple(ids)
    )  # fmt: skip


def _other_data(first: Run, second: Run, verdict: Verdict) -> str:
    a, b = data_label(first), data_label(second)
    what = f"{verdict.name} was validated on {a}, {verdict.baseline} on {b}"
    return what + (": other pictures." if a != b else ", and the data has changed between them: other pictures.")


def _said(verdict: Verdict) -> Verdict:
    """With `is_real` and the sentence, once the correction is known."""
    assert verdict.p_corrected is not None
    real = verdict.p_corrected < ALPHA
    say = _about_recipes if verdict.kind == "recipes" else _about_networks
    return replace(verdict, is_real=real, sentence=say(replace(verdict, is_real=real)))


def _about_recipes(v: Verdict) -> str:
    assert v.difference is not None and v.interval is not None
    over = f"over {v.n} seeds" if v.paired else f"over {v.seeds[0]} and {v.seeds[1]} seeds"
    if v.is_real:
        did = "beats" if v.difference > 0 else "falls behind"
        return f"{v.name} {did} {v.baseline} by {_points(abs(v.difference))}{_on(v)}; 95 % interval {_size(v)} {over}: more than noise ({_p(v)})."
    alone = ", though it would pass alone" if v.p is not None and v.p < ALPHA else ""
    return f"{v.name} is {_apart(v)} {v.baseline}{_on(v)}; 95 % interval {_range(*v.interval)} {over}: no more than noise ({_p(v)}{alone})."


def _about_networks(v: Verdict) -> str:
    assert v.difference is not None and v.interval is not None
    ours, theirs = v.networks
    pictures = f"{v.n:,} shared {'' if v.split == 'val' else f'{v.split} '}pictures"
    if v.is_real:
        return f"On {pictures} the network {ours} is {_apart(v)} the network {theirs}; 95 % interval {_size(v)}: more than chance for these two networks ({_p(v)}). {_and_the_recipe(v)}".rstrip()
    few = "one seed each" if v.seeds == (1, 1) else f"fewer than {MIN_SEEDS} finished seeds of each{_evaluated(v)}"
    test = "The test" if v.ensemble or v.one_start else f"With {few}, the test"
    return f"{test} on {pictures} cannot tell {ours} and {theirs} apart: {_points(v.difference, sign=True)}, 95 % interval {_range(*v.interval)} ({_p(v)}). {_one_start(v)}".rstrip()


def _and_the_recipe(v: Verdict) -> str:
    if v.ensemble:
        return ""
    if v.same_recipe and v.same_seed:
        return "They have the same settings and seed: this is how far two trainings of them can be apart."
    if v.same_recipe:
        return "They differ by seed only: this is how far seeds can be apart."
    return _one_start(v) or f"Whether the recipe does it takes {MIN_SEEDS} seeds of each{_evaluated(v)}."


def _one_start(v: Verdict) -> str:
    """Why seeds do not make it a verdict on recipes; '' where they would, and of an ensemble."""
    if v.ensemble or not v.one_start:
        return ""
    whose = ", and so do those of ".join(v.one_start)
    return f"The seeds of {whose} begin from the same weights, so this is about these networks."


def _on(v: Verdict) -> str:
    return "" if v.split == "val" else f" on {v.split}"


def _evaluated(v: Verdict) -> str:
    """What seeds need beside an end: training evaluates on val."""
    return "" if v.split == "val" else f", evaluated on {v.split}"


def _apart(v: Verdict) -> str:
    assert v.difference is not None
    return f"{_points(abs(v.difference))} {'above' if v.difference >= 0 else 'below'}"


def _size(v: Verdict) -> str:
    """The interval of a difference whose direction the sentence has named already."""
    assert v.interval is not None and v.difference is not None
    low, high = v.interval
    return _range(low, high) if v.difference > 0 else _range(-high, -low)


def _points(fraction: float, *, sign: bool = False) -> str:
    return _minus(f"{100 * fraction:+.2f} points" if sign else f"{100 * fraction:.2f} points")


def _range(low: float, high: float) -> str:
    return _minus(f"{100 * low:.2f} to {100 * high:.2f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _p(v: Verdict) -> str:
    """Three decimals below 0.1, and as many more as tell it from 0.05 where it is below."""
    p = v.p_corrected or 0.0
    digits = 2 if p >= 0.1 else next(d for d in range(3, 20) if (round(p, d) < ALPHA) == (p < ALPHA))
    return "p < 0.001" if p < 0.001 else f"p = {p:.{digits}f}"
