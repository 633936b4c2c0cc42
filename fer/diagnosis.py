"""What the curves say: a diagnosis of each run, and of runs side by side, by rules that are written down.

    diverged        the loss is no longer a number, or train loss rose by half from its lowest, and by 0.3 or more
    not-learning    after 3 epochs or more, train top-1 is still that of always naming the commonest class
    rate-too-high   train loss rose by over 2 % in a fifth of the epochs, or began a third above that of guessing
    overfitting     val loss turned: it ended 5 % or more above its lowest while train loss went on falling
    drift           train top-1 ended 10 points or more above val top-1
    unfinished      the best epoch is among the last tenth and train loss was still falling: more epochs would help, or to resume
                    what was stopped before its planned epochs; early stopping is an end of its own
    underfitting    train top-1 ended below 90 % and within 5 points of val top-1, and train loss no longer fell
    early-stop      early stopping ended it although val loss had just improved, or before the schedule lowered the rate
    plateau         val top-1 got no better for a third of the epochs, 5 at least, and val loss had not turned
    class-collapse  a class is hardly ever recognised (recall below 5 %), or one class takes 60 % of the predictions
    neglected       a class's recall is below half of the mean
    odd-loss        val loss is lower than any mean cross entropy with that many wrong pictures can be

Each finding carries its evidence in figures, and remedies: the changes of a recipe, or of one setting, that fit this run and
are not made in it already, and never one that weakens what it has. All but the last read `metrics.jsonl`; the two on classes
read the report on val.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fer.config import Config, differing, flatten, used, with_settings
from fer.errors import ConfigError
from fer.experiments import by_data, data_key, data_label, setting_text, settings_in_effect
from fer.pretrained import SHAPES
from fer.recipes import RECIPES
from fer.runs import ACTIVE, Run
from fer.schedules import lr_at

Level = Literal["problem", "note"]
_CLASSES, _COMMONEST = 7, 0.25  # FER2013's, where no report says it


@dataclass(frozen=True)
class Remedy:
    """What to try next: `changes` by dotted path against the run's config; recipe: the one whose changes they are, or ''."""

    title: str
    why: str
    changes: Mapping[str, Any]
    recipe: str = ""

    @property
    def assignments(self) -> list[str]:
        """As `--set` takes them: `["optim.lr=0.0001"]`."""
        return [f"{path}={setting_text(value)}" for path, value in self.changes.items()]

    def config(self, run: Run) -> Config:
        """The run's config with this change."""
        assert run.config
        return with_settings(run.config, self.changes)


@dataclass(frozen=True)
class Finding:
    """What a rule found in a run. kind: the rule's name; evidence: one sentence with its figures; epoch: where it shows."""

    kind: str
    title: str
    evidence: str
    level: Level = "problem"
    remedies: tuple[Remedy, ...] = ()
    epoch: int | None = None


def diagnose(run: Run) -> tuple[Finding, ...]:
    """What the rules find in one run, in their order; nothing before the first epoch, unless it failed there.

    A run that still trains is judged by what lasts: that it turned, drifted or diverged; not that it is not done. An
    ensemble was not trained and has no curve to say anything.
    """
    if run.config is None or run.members:
        return ()
    found = (rule(run) for rule in _RULES)
    return tuple(f for f in found if f is not None)


# --- remedies --------------------------------------------------------------------------------------------------------

_WHY = {
    "augment": "each picture looks different in each epoch, so it cannot be learned by heart",
    "augment-flip": "a mirrored face shows the same expression",
    "mixup": "blends of two pictures cannot be learned by heart",
    "dropout": "no unit can rely on another one being there",
    "weight-decay": "keeps weights small, and the network smooth",
    "label-smoothing": "keeps it from growing ever surer of its mistakes",
    "early-stopping": "ends where val stops getting better, which saves the epochs after",
    "fewer-layers": "fewer weights can learn less by heart",
    "narrow": "fewer weights can learn less by heart",
    "batch-norm": "steadies each layer's input, which allows a higher rate",
    "ema": "the mean of the last weights is steadier than the weights",
    "warm-up": "small first steps, while the gradients are at their wildest",
    "clipping": "no single batch can throw the weights far",
    "step-decay": "smaller steps find what large ones jump over",
    "cosine": "smaller steps find what large ones jump over",
    "plateau": "lowers the rate when val loss stalls",
    "balanced-sampling": "shows rare classes as often as the others",
    "weighted-loss": "makes a mistake on a rare class cost more",
}

# Where a remedy's setting does more the larger it is, and where the smaller.
_LARGER = (
    "augment.flip", "augment.shift", "augment.rotate", "augment.scale", "augment.light", "augment.erase", "augment.mixup",
    "model.dropout", "optim.weight_decay", "train.label_smoothing", "train.ema_decay", "schedule.warmup_epochs",
)  # fmt: skip
_SMALLER = ("model.width", "model.hidden_layers", "train.patience", "train.clip_norm")


def _recipes(run: Run, *names: str) -> tuple[Remedy, ...]:
    """The recipes of these names as changes to this run's config; without what it has as much of or more, and what does not
    fit it."""
    assert run.config
    now, remedies = flatten(run.config), []
    for name in names:
        if recipe := RECIPES.get(name):
            changes = {path: value for path, value in recipe.changes.items() if not _weakens(path, now[path], value)}
            remedies.append(_change(run, recipe.title, _WHY.get(name, recipe.summary), changes, recipe.name))
    return _some(*remedies)


def _weakens(path: str, now: Any, then: Any) -> bool:
    """Whether a remedy's value would do less than the one that the run has; None is off."""
    return now is not None and ((path in _LARGER and then < now) or (path in _SMALLER and then > now))


def _change(run: Run, title: str, why: str, changes: Mapping[str, Any], recipe: str = "") -> Remedy | None:
    """None where nothing would change that the run uses, it could not be launched so, or the result is no config."""
    assert run.config
    now = flatten(run.config)
    then = {**now, **changes}
    new = {path: value for path, value in changes.items() if now[path] != value and used(path, then)}
    if not new or (run.config.model.from_run and {f"model.{key}" for key in SHAPES} & new.keys()):
        return None
    try:
        with_settings(run.config, new)
    except ConfigError:
        return None
    return Remedy(title, why, new, recipe)


def _some(*remedies: Remedy | None) -> tuple[Remedy, ...]:
    return tuple(r for r in remedies if r)


def _rate(run: Run, factor: float, why: str) -> Remedy | None:
    assert run.config
    rate = float(f"{run.config.optim.lr * factor:.3g}")
    return _change(run, f"Learning rate {rate:g}", why, {"optim.lr": rate})


# --- the rules -------------------------------------------------------------------------------------------------------


def _diverged(run: Run) -> Finding | None:
    cures = (_rate(run, 0.1, "steps a tenth as long"), *_recipes(run, "warm-up", "clipping"))
    if run.state == "failed" and "no longer a number" in str(run.status.get("error")):
        evidence = f"the training loss was no longer a number after {_count(len(run.metrics), 'whole epoch')}, at a learning rate of {_lr(run):g}"
        return Finding("diverged", "Training diverged", evidence, remedies=_some(*cures))
    losses = _column(run, "train_loss")
    if not losses:
        return None
    lowest = losses.index(min(losses))
    if losses[-1] < 1.5 * losses[lowest] or losses[-1] - losses[lowest] < 0.3:
        return None
    evidence = (
        f"train loss rose from {losses[lowest]:.2f} in epoch {lowest + 1} to {losses[-1]:.2f} in epoch {len(losses)}"
    )
    return Finding("diverged", "Training diverged", evidence, remedies=_some(*cures), epoch=lowest + 1)


def _not_learning(run: Run) -> Finding | None:
    tops, losses = _column(run, "train_top1"), _column(run, "train_loss")
    guessing = _commonest(run)
    if len(tops) < 3 or max(tops) > guessing + 0.02:
        return None
    evidence = f"after {len(tops)} epochs train top-1 is {_percent(tops[-1])} and train loss {losses[-1]:.2f}; always naming the commonest class gets {_percent(guessing)}"
    other = _rate(run, 0.1, "a rate this high can switch units off for good") if _lr(run) > 1e-4 else None
    other = other or _rate(run, 10, "a rate this low hardly moves the weights")
    return Finding(
        "not-learning", "It did not learn", evidence, remedies=_some(other, *_recipes(run, "warm-up", "batch-norm"))
    )


def _rate_too_high(run: Run) -> Finding | None:
    losses = _column(run, "train_loss")
    if not losses or _not_learning(run) or _diverged(run):
        return None
    cures = (_rate(run, 0.3, "steps a third as long"), *_recipes(run, "warm-up", "clipping", "cosine"))
    guessing = math.log(_number_of_classes(run))
    if losses[0] > guessing * 4 / 3:
        evidence = f"train loss was {losses[0]:.2f} over epoch 1, where guessing gives {guessing:.2f}, at a learning rate of {run.metrics[0]['lr']:g}"
        return Finding(
            "rate-too-high", "The learning rate was too high at first", evidence, remedies=_some(*cures), epoch=1
        )
    rises = [i + 1 for i in range(2, len(losses)) if losses[i] > 1.02 * losses[i - 1]]
    if len(losses) < 6 or len(rises) < max(2, (len(losses) - 2) / 5):
        return None
    evidence = f"train loss rose in {len(rises)} of {len(losses) - 2} epochs after the second (first in epoch {rises[0]}, from {losses[rises[0] - 2]:.2f} to {losses[rises[0] - 1]:.2f})"
    return Finding("rate-too-high", "The learning rate is too high", evidence, remedies=_some(*cures), epoch=rises[0])


def _overfitting(run: Run) -> Finding | None:
    turn = _turn(run)
    if turn is None:
        return None
    val, train = _column(run, "val_loss"), _column(run, "train_loss")
    evidence = f"after epoch {turn} val loss rose from {val[turn - 1]:.2f} to {val[-1]:.2f} while train loss fell to {train[-1]:.2f}"
    cures = _recipes(run, "augment", "dropout", "weight-decay", "label-smoothing", "early-stopping")
    level: Level = "problem" if val[-1] > 1.25 * val[turn - 1] else "note"
    return Finding("overfitting", f"Overfitting: val loss turned after epoch {turn}", evidence, level, cures, turn)


def _turn(run: Run) -> int | None:
    """The epoch after which val loss turned; None where it did not."""
    val, train = _column(run, "val_loss"), _column(run, "train_loss")
    if len(val) < 3:
        return None
    lowest = val.index(min(val))
    turned = len(val) - lowest > 2 and val[-1] >= 1.05 * val[lowest] and train[-1] < train[lowest]
    return lowest + 1 if turned else None


def _drift(run: Run) -> Finding | None:
    if not run.metrics or not run.best or not run.last:
        return None
    gap = run.last["train_top1"] - run.last["val_top1"]
    if gap < 0.10:
        return None
    at_best = run.best["train_top1"] - run.best["val_top1"]
    evidence = f"after epoch {run.last['epoch']} train top-1 is {_percent(run.last['train_top1'])} and val top-1 {_percent(run.last['val_top1'])}, {100 * gap:.1f} points apart; in the best epoch, {run.best['epoch']}, it was {100 * at_best:.1f}"
    cures = _recipes(run, "mixup", "narrow", "fewer-layers")
    level: Level = "problem" if gap >= 0.25 else "note"
    return Finding(
        "drift", f"Train and val drifted {100 * gap:.0f} points apart", evidence, level, cures, run.last["epoch"]
    )


def _unfinished(run: Run) -> Finding | None:
    assert run.config
    n = len(run.metrics)
    if n < 2 or run.state in ACTIVE or not run.best or not _still_falling(run):
        return None
    if run.best["epoch"] <= n - max(1, n // 10) or _turn(run):
        return None
    if run.state == "finished" and n < run.epochs:  # out of patience, as it would be with more epochs
        return None
    train = _column(run, "train_loss")
    evidence = f"the best epoch is {run.best['epoch']} of {n}, and train loss was still falling, from {train[-1 - _stretch(n)]:.2f} to {train[-1]:.2f} over the last {_count(_stretch(n), 'epoch')}"
    more = None
    if n < run.epochs:
        go_on = "" if run.not_resumed else ": resume it"
        evidence += f"; {run.state} after {n} of {run.epochs} epochs{go_on}"
    else:
        more = _change(run, f"{2 * run.epochs} epochs", "gives it the time", {"train.epochs": 2 * run.epochs})
    return Finding("unfinished", "It was still getting better when it ended", evidence, "note", _some(more), n)


def _underfitting(run: Run) -> Finding | None:
    assert run.config
    last, n = run.last, len(run.metrics)
    if n < 3 or run.state in ACTIVE or not last or _not_learning(run) or _diverged(run):
        return None
    if last["train_top1"] >= 0.9 or last["train_top1"] - last["val_top1"] >= 0.05 or _still_falling(run):
        return None
    evidence = f"train top-1 ended at {_percent(last['train_top1'])}, {100 * (last['train_top1'] - last['val_top1']):.1f} points from val, and train loss fell no further than {last['train_loss']:.2f}"
    width = min(2 * run.config.model.width, 4.0)
    cures = (
        _change(run, f"Width {width:g}", "more weights can learn more", {"model.width": width}),
        *_recipes(run, "batch-norm"),
        _change(run, "Without dropout", "nothing is left out", {"model.dropout": 0.0}),
        _change(run, "Without weight decay", "weights may grow", {"optim.weight_decay": 0.0}),
    )
    return Finding(
        "underfitting", "Underfitting: it does not even fit what it trains on", evidence, remedies=_some(*cures)
    )


def _early_stop(run: Run) -> Finding | None:
    assert run.config
    patience, n = run.config.train.patience, len(run.metrics)
    if patience is None or run.state != "finished" or not 0 < n < run.epochs:
        return None
    val, rates = _column(run, "val_loss"), _column(run, "lr")
    lowest = val.index(min(val)) + 1
    ended = f"it ended after epoch {n} of {run.epochs}, {_count(patience, 'epoch')} without a better val top-1"
    if lowest >= n - 1 and n > 2:
        evidence = f"{ended}, though val loss was at its lowest, {val[lowest - 1]:.2f}, in epoch {lowest}"
    elif run.config.schedule.name not in ("constant", "one-cycle") and rates[-1] > 0.9 * max(rates):
        evidence = f"{ended}, before the {run.config.schedule.name} schedule had lowered the rate of {rates[-1]:g}"
    else:
        return None
    longer = max(2 * patience, 10)
    cures = (
        _change(run, f"Patience {longer}", "waits longer for a better epoch", {"train.patience": longer}),
        _change(run, "Without early stopping", "the best weights are kept anyway", {"train.patience": None}),
    )
    return Finding("early-stop", "Early stopping came too early", evidence, "note", _some(*cures), n)


def _plateau(run: Run) -> Finding | None:
    assert run.config
    n = len(run.metrics)
    if not run.best or _turn(run) or _not_learning(run) or _diverged(run):
        return None
    waited = n - run.best["epoch"]
    if n < 8 or waited < max(5, n // 3):
        return None
    evidence = f"val top-1 has not passed the {_percent(run.best['val_top1'])} of epoch {run.best['epoch']} in {waited} epochs since"
    constant = run.config.schedule.name == "constant"
    cures = _recipes(run, *(("plateau", "step-decay", "cosine") if constant else ("augment", "batch-norm", "ema")))
    return Finding("plateau", f"A plateau since epoch {run.best['epoch']}", evidence, "note", cures, run.best["epoch"])


def _class_collapse(run: Run) -> Finding | None:
    classes, cures = _recalls(run), _recipes(run, "balanced-sampling", "weighted-loss")
    lost = [name for name, (recall, n) in classes.items() if recall < 0.05 and n >= 10]
    name, share = _most_predicted(run)
    if lost and len(lost) < len(classes):
        evidence = "; ".join(
            f"of {classes[c][1]:,} {c} pictures {_percent(classes[c][0])} are recognised" for c in lost
        )
        title = f"{' and '.join(lost)} {'are' if len(lost) > 1 else 'is'} hardly ever recognised"
        return Finding("class-collapse", title, evidence, remedies=cures)
    if share >= 0.6:
        evidence = f"{_percent(share)} of all predictions are {name}"
        return Finding("class-collapse", f"Nearly everything is called {name}", evidence, remedies=cures)
    return None


def _neglected(run: Run) -> Finding | None:
    classes = _recalls(run)
    if not classes or _class_collapse(run):
        return None
    mean = sum(recall for recall, _ in classes.values()) / len(classes)
    worst = min(classes, key=lambda c: classes[c][0])
    recall, n = classes[worst]
    if recall >= mean / 2 or n < 10:
        return None
    evidence = (
        f"of {n:,} {worst} pictures {_percent(recall)} are recognised, where the mean over classes is {_percent(mean)}"
    )
    cures = _recipes(run, "balanced-sampling", "weighted-loss")
    return Finding("neglected", f"{worst} is neglected", evidence, "note", cures)


def _odd_loss(run: Run) -> Finding | None:
    for row in run.metrics:
        # A wrong picture's true class has at most half of the probability, so each wrong one costs ln 2 or more.
        least = (1 - row["val_top1"]) * math.log(2)
        if row["val_loss"] < least - 1e-6:
            evidence = f"in epoch {row['epoch']} val loss is {row['val_loss']:.3f}, but with {_percent(1 - row['val_top1'])} wrong a mean cross entropy is {least:.3f} or more; it may be a sum of batch means divided by the number of pictures"
            return Finding("odd-loss", "Its val loss is not the mean cross entropy", evidence, epoch=row["epoch"])
    return None


_RULES: tuple[Callable[[Run], Finding | None], ...] = (
    _diverged,
    _not_learning,
    _rate_too_high,
    _overfitting,
    _drift,
    _unfinished,
    _underfitting,
    _early_stop,
    _plateau,
    _class_collapse,
    _neglected,
    _odd_loss,
)


# --- what the rules look at ------------------------------------------------------------------------------------------


def _column(run: Run, key: str) -> list[float]:
    return [row[key] for row in run.metrics]


def _lr(run: Run) -> float:
    assert run.config
    return run.config.optim.lr


def _stretch(n: int) -> int:
    """How many epochs 'the last ones' are."""
    return max(1, n // 5)


def _still_falling(run: Run) -> bool:
    """Whether train loss fell by 3 % or more over the last fifth of the epochs."""
    losses = _column(run, "train_loss")
    return losses[-1] < 0.97 * losses[-1 - _stretch(len(losses))]


def _recalls(run: Run) -> dict[str, tuple[float, int]]:
    """`{class: (recall, n)}` of the report on val; empty where there is none or it is damaged."""
    per_class = (run.report("val") or {}).get("per_class")
    if not isinstance(per_class, dict):
        return {}
    try:
        return {str(name): (float(of["recall"]), int(of["n"])) for name, of in per_class.items()}
    except (TypeError, KeyError, ValueError):
        return {}


def _most_predicted(run: Run) -> tuple[str, float]:
    """The class that is predicted most, and its share of the predictions; ('', 0.0) where no report says."""
    names, matrix = list(_recalls(run)), (run.report("val") or {}).get("confusion_matrix")
    try:
        columns = [sum(column) for column in zip(*matrix, strict=True)]  # type: ignore[misc]
        most = max(range(len(columns)), key=columns.__getitem__)
        return names[most], columns[most] / sum(columns)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return "", 0.0


def _commonest(run: Run) -> float:
    """The share of the commonest class."""
    counts = [n for _, n in _recalls(run).values()]
    return max(counts) / sum(counts) if sum(counts) else _COMMONEST


def _number_of_classes(run: Run) -> int:
    return max(2, len(_recalls(run))) if _recalls(run) else _CLASSES


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


# --- runs side by side -----------------------------------------------------------------------------------------------

# What says how long a run trains.
_LENGTH = ("train.epochs", "train.patience")

# What makes training pictures, and so the train figures, harder than those of validation.
_HARDER = ("augment.", "model.dropout", "train.balance")


@dataclass(frozen=True)
class Together:
    """What is true of several runs. runs: their ids.

    kind: `identical` figures under different settings, `same-training` where they had to be, `repeat` of config and seed,
    `other-data`, `other-loss`, `train-figures` where train loss and top-1 are of harder pictures in some of them.
    """

    kind: str
    sentence: str
    level: Level
    runs: tuple[str, ...] = field(default=())


def diagnose_together(runs: Sequence[Run]) -> tuple[Together, ...]:
    """What a reader of several runs must know before believing that their figures can be compared."""
    usable = [r for r in runs if r.config]
    trained = [r for r in usable if not r.members]
    found = [
        _other_data(usable),
        _other_loss(usable),
        *map(_identical, twins(trained)),
        *_repeats(trained),
        _harder(trained),
    ]
    return tuple(t for t in found if t is not None)


def _other_data(runs: Sequence[Run]) -> Together | None:
    parts = by_data(runs)
    if len(parts) < 2:
        return None
    named = "; ".join(f"{_names(part)} on {data_label(part[0])}" for part in parts)
    same = len({data_label(part[0]) for part in parts}) < len(parts)
    changed = " One name stands for data that have changed between the runs." if same else ""
    sentence = f"Different data: these figures cannot be compared with each other. {named}.{changed}"
    return Together("other-data", sentence, "problem", tuple(r.id for r in runs))


def _other_loss(runs: Sequence[Run]) -> Together | None:
    odd = [r for r in runs if _odd_loss(r)]
    if not odd or len(runs) < 2:
        return None
    sentence = f"The val loss of {_names(odd)} is not the mean cross entropy that the others show, so losses cannot be compared; top-1 can."
    return Together("other-loss", sentence, "problem", tuple(r.id for r in odd))


def _identical(pair: Twins) -> Together:
    a, b, n = pair.first.name, pair.second.name, len(pair.first.metrics)
    ids = (pair.first.id, pair.second.id)
    if pair.expected:
        sentence = f"{a} and {b} have identical figures in all {_count(n, 'epoch')}: in these, their settings have the same effect, so it was the same training."
        return Together("same-training", sentence, "note", ids)
    sentence = f"{a} and {b} have identical figures to the last digit in all {_count(n, 'epoch')}, though their settings differ. One of them did not run what its name says."
    return Together("identical", sentence, "problem", ids)


def _repeats(runs: Sequence[Run]) -> list[Together]:
    alike: dict[Any, list[Run]] = {}
    for run in runs:
        if run.config and run.metrics:
            alike.setdefault((run.experiment, run.config.seed, data_key(run)), []).append(run)
    return [_repeat(same) for same in alike.values() if len(same) > 1]


def _repeat(runs: Sequence[Run]) -> Together:
    same = len({_history(r) for r in runs}) == 1
    then = (
        "with identical figures: it is one training, several times."
        if same
        else "and their figures differ: they ran on another device, precision or number of threads, to another epoch, or not with these settings."
    )
    sentence = f"{_names(runs)} have the same settings and seed {then} They count as one seed."
    named_apart = len({r.recipe for r in runs}) > 1
    if named_apart:
        sentence += f" Yet they are called {' and '.join(dict.fromkeys(r.recipe for r in runs))}: one of them did not run what its name says."
    return Together("repeat", sentence, "problem" if named_apart else "note", tuple(r.id for r in runs))


def _harder(runs: Sequence[Run]) -> Together | None:
    configs = [r.config for r in runs if r.config]
    paths = [p for p in differing(configs) if p.startswith(_HARDER)]
    if not paths:
        return None
    sentence = f"Train loss and train top-1 are taken while training, and these runs differ in {', '.join(paths)}: harder pictures give worse train figures. Val figures can be compared."
    return Together("train-figures", sentence, "note", tuple(r.id for r in runs))


def _names(runs: Sequence[Run]) -> str:
    names = [r.name for r in runs]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _history(run: Run) -> tuple[tuple[float, ...], ...]:
    return tuple((r["train_loss"], r["train_top1"], r["val_loss"], r["val_top1"]) for r in run.metrics)


@dataclass(frozen=True)
class Twins:
    """Two runs that say they differ and whose figures are the same to the last digit in every epoch.

    expected: only schedule and length differ, which gave the same rates and let both come this far, or what they do not
    use, so the figures have to be the same.
    """

    first: Run
    second: Run
    expected: bool


def twins(runs: Iterable[Run]) -> list[Twins]:
    """Runs of different settings or seeds with identical histories: one of them may not have run what its name says."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        if run.metrics and run.config:
            groups.setdefault(_history(run), []).append(run)
    return [t for first, *others in groups.values() for second in others if (t := _twins(first, second))]


def _twins(first: Run, second: Run) -> Twins | None:
    """None where the two are a repetition: the same settings and seed give the same figures."""
    assert first.config and second.config
    differ = {p for p in differing([first.config, second.config]) if not p.startswith("runtime.")}
    if not differ and first.recipe == second.recipe:
        return None
    ours, theirs = settings_in_effect(first.config), settings_in_effect(second.config)
    lengthwise = all(p.startswith("schedule.") or p in _LENGTH for p in differ if ours[p] != theirs[p])
    expected = lengthwise and _same_rates(first, second) and _was_patient(first) and _was_patient(second)
    return Twins(first, second, expected)


def _was_patient(run: Run) -> bool:
    """Whether early stopping, as the settings ask for it, let the run come to its last epoch."""
    assert run.config
    patience, best, waited = run.config.train.patience, -1.0, 0
    for top1 in _column(run, "val_top1")[:-1]:
        best, waited = max(best, top1), 0 if top1 > best else waited + 1
        if patience is not None and waited >= patience:
            return False
    return True


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
