"""A model card: what a trained network is, how good it is and for whom, in Markdown (Mitchell et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer.errors import RunError
from fer.runs import TTA, Run, precision_of, whole_report

# What is said of responsible use, once: the cards, the Predict page and the README have these words.
FOR = "It is for learning about networks and comparing ways to train them, and for trying a picture of a face."
SAYS = "It says what a face looks like to a network that learned from other people's guesses. It does not know what anybody feels."
MUST_NOT = (
    "Do not use it to judge, select, watch or score people. In the European Union, inferring emotions at work and in "
    "education has been prohibited since February 2025, except for medical and safety reasons (AI Act, Article 5(1)(f))."
)
LABELS = (
    "The labels of FER2013 are noisy: people agree with them for about 65 % of the pictures (Goodfellow et al., 2013); of those "
    "labelled angry, ten later annotators saw anger in 46 %, of those labelled sad, sadness in 40 %. The pictures were "
    "collected from the web and do not represent any population."
)
UNKNOWN_LABELS = "How the labels of these pictures were made, and how far people agree with them, is not known here."
DRAWN = "The faces are drawn, not photographed."


def labels_note(run: Run) -> str:
    """What is known of the labels that a run learned from."""
    return DRAWN if run.synthetic else LABELS if run.fer2013 else UNKNOWN_LABELS


def model_card(run: Run) -> str:
    """The card of a run that was evaluated on val. Raises RunError where it was not."""
    report = run.report("val")
    if run.config is None or report is None or not whole_report(report):
        what = "no report" if report is None else "a damaged report"
        raise RunError(
            f"Run '{run.id}' has {what} on val to write a card from. Make one with: python -m fer evaluate {run.id}"
        )
    parts = [
        f"# Model card: {_plain(run.name)}",
        _what(run),
        "## How good it is\n\n" + _figures(run, report),
        "### By class\n\n" + _by_class(report),
        "## What it learned from\n\n" + _data(run, report),
        "## How it was trained\n\n" + _training(run),
        f"## What it is for, and what it must not be used for\n\n{FOR}\n\n{SAYS} {MUST_NOT}",
    ]
    return "\n\n".join(parts) + "\n"


def _what(run: Run) -> str:
    parameters, steps = run.model.get("num_params"), run.model.get("multiply_adds")
    known = parameters is not None and steps is not None
    size = f"{parameters:,} parameters and {steps / 1e6:,.1f} million multiply-adds a picture" if known else ""
    if run.members:
        in_all = f"{size} in all" if known else "Size not recorded"
        return f"An ensemble of {', '.join(f'`{m}`' for m in run.members)}: the mean of their calibrated probabilities. {in_all}."
    size = size or "size not recorded"
    name = run.config.model.name if run.config else ""
    return f"The network `{name}`, recipe `{run.recipe}`, for grey face crops of 48x48 pixels: {size}."


def _figures(run: Run, report: Mapping[str, Any]) -> str:
    """The plain figures, and those with test-time views where they were taken."""
    rows = [("One look at each picture", report)]
    if whole_report(with_views := run.report("val" + TTA)):
        rows.append(("Mean of ten views", with_views))
    lines = [
        "| on val | top-1 | without pictures that stand in train | macro F1 | loss | calibration error, before and after scaling |",
        "|---|---|---|---|---|---|",
    ]
    for title, one in rows:
        without = _known(one, "duplicates", "top1_without", ".2%")
        errors = [_known(one, "calibration", key, ".3f") for key in ("ece_before", "ece_after")]
        lines.append(
            f"| {title} | {one['top1']:.2%} | {without} | {one['macro_f1']:.3f} | {one['loss']:.3f} | {' and '.join(errors)} |"
        )
    note = f"\n\n{_plain(report['split_note'])}" if report.get("split_note") else ""
    whose = "" if run.members or "epoch" not in report else f"; weights of epoch {report['epoch']}"
    return "\n".join(lines) + f"\n\n{report['n']:,} pictures{whose}." + note


def _known(report: Mapping[str, Any], part: str, key: str, form: str) -> str:
    """A number that not every report has, in words; 'not known' where this one lacks it."""
    found = report.get(part)
    value = found.get(key) if isinstance(found, Mapping) else None
    return format(value, form) if isinstance(value, int | float) else "not known"


def _by_class(report: Mapping[str, Any]) -> str:
    lines = ["| class | precision | recall | F1 | pictures |", "|---|---|---|---|---|"]
    for name, x in report["per_class"].items():
        precision = precision_of(report, name)
        said = "–" if precision is None else f"{precision:.1%}"
        lines.append(f"| {_plain(name)} | {said} | {x['recall']:.1%} | {x['f1']:.3f} | {x['n']:,} |")
    return "\n".join(lines)


def _data(run: Run, report: Mapping[str, Any]) -> str:
    said = [
        f"The training split of `{_plain(run.data_name)}`; epochs and settings were chosen on val. Fingerprint of the data: `{_plain(run.fingerprint)}`."
    ]
    twice = _known(report, "duplicates", "in_train", ",")
    if twice != "not known":
        known = "are among those that it learned from" if report["duplicates"].get("of") else "stand in train too"
        said.append(f"{twice} of the {report['n']:,} pictures of val {known}, pixel by pixel.")
    if others := _others_weights(run):
        said.append(others)
    if run.start_note:
        said.append(_plain(run.start_note))
    said.append(labels_note(run))
    return " ".join(said)


def _others_weights(run: Run) -> str:
    """The sentence about weights that came from outside of the store, those of torchvision or of a file; '' where none did."""
    first = run.status.get("first_weights")
    is_ours = run.record.get("data", {}).get("learned_from")  # then it is known what they learned from
    if not run.config or not isinstance(first, Mapping) or first.get("run") or is_ours:
        return ""
    file = f"`{_plain(str(first.get('file')))}` (sha256 `{_plain(str(first.get('sha256'))[:12])}`)"
    if run.config.model.weights:
        return f"Before that its backbone learned from other pictures, whoever trained the weights in {file}; which, is not known here."
    return f"Before that its backbone learned from the photos of ImageNet: it began from torchvision's {file}."


def _training(run: Run) -> str:
    status, versions = run.status, run.status.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    seconds = sum(row["epoch_seconds"] for row in run.metrics)
    if run.members:
        origins = f", {_plain(run.origins_note)}" if run.origins_note else ""
        cards = "; each has a card of its own" if run.shipped else ""
        return f"Its members' trainings took {seconds / 60:,.0f} minutes together{origins}{cards}."
    said = [
        f"{len(run.metrics)} epochs with seed {run.config.seed if run.config else 0} in {seconds / 60:,.0f} minutes on {_plain(str(status.get('device_name', 'a machine not recorded')))}, "
        f"threads: {status.get('threads', '?')}, {_plain(str(status.get('precision', '?')))}; torch {_plain(str(versions.get('torch', '?')))}, commit {_plain(str(status.get('git_commit')))}."
    ]
    if run.config and run.config.model.from_run:
        said.append(
            f"It began from the best weights of `{_plain(run.config.model.from_run)}`, whose training is not in these minutes."
        )
    if run.remark:
        said.append(_plain(run.remark))
    return " ".join(said)


def _plain(text: str) -> str:
    """Text of somebody's own as one line of Markdown that means nothing but itself."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in " ".join(text.split()))
