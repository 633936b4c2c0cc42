"""The documentation keeps its promises: the map names every file, the commands exist, the pictures are there."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablations import table
from fer.card import model_card
from fer.experiments import figures, groups
from fer.recipes import RECIPES, STUDY
from fer.runs import TTA, Run, RunStore, by_merit

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def mapped() -> list[str]:
    """The paths of the map, one a line, in the fenced block under 'The map'."""
    block = README.split("## The map")[1].split("```")[1]
    return [line.split()[0] for line in block.strip().splitlines()[1:]]


@pytest.fixture(scope="module")
def shipped() -> list[Run]:
    """What comes with the project, the archived too."""
    store = RunStore(ROOT / "checkpoints")
    return [store.get(run_id) for run_id in sorted(store.shipped())]


def tracked() -> set[str]:
    """Every file of the project; what git ignores is left out."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return {f for f in listing.stdout.splitlines() if (ROOT / f).exists()}


def test_the_map_names_every_file_once_and_nothing_else() -> None:
    paths = mapped()
    folders = [p for p in paths if p.endswith("/")]
    files = [p for p in paths if not p.endswith("/")]
    assert len(set(paths)) == len(paths)
    assert {f for f in tracked() if not any(fnmatch(f, f"{folder}*") for folder in folders)} == set(files)
    assert all(any(ROOT.glob(folder)) for folder in folders)


def test_every_line_of_the_map_says_what_the_file_is() -> None:
    block = README.split("## The map")[1].split("```")[1]
    assert [line for line in block.strip().splitlines()[1:] if len(line.split(maxsplit=1)) < 2] == []


def test_pictures_exist() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert len(pictures) == 3
    assert [p for p in pictures if not (ROOT / p).is_file()] == []


def test_recipes_in_the_examples_exist() -> None:
    assert set(re.findall(r"--recipe (\S+)", README)) <= set(RECIPES)


def test_responsible_use_has_the_words_of_the_code() -> None:
    from fer.card import FOR, LABELS, MUST_NOT, SAYS

    section = README.split("## What it is for, and what it must not be used for")[1].split("\n## ")[0]
    assert [words for words in (FOR, LABELS, MUST_NOT, SAYS) if words not in " ".join(section.split())] == []


def test_the_data_that_the_readme_names_are_those_of_the_shipped_runs(shipped: list[Run]) -> None:
    (fingerprint,) = {r.fingerprint for r in shipped}
    counts = {len(np.load(r.path / "logits-val.npz")["labels"]) for r in shipped}
    assert f"fingerprint `{fingerprint}`" in README
    assert f"PublicTest, {counts.pop():,} pictures, in `test/`" in README
    assert not counts


def test_shipped_cards_are_those_of_the_store(shipped: list[Run]) -> None:
    with_weights = [r for r in shipped if r.has_weights]
    assert {r.id for r in with_weights} >= {r.id for r in shipped if not r.notes.archived}
    for run in with_weights:
        assert (run.path / "model-card.md").read_text() == model_card(run), f"python -m fer runs card {run.id}"


def test_shipped_figures_are_those_of_the_store(shipped: list[Run]) -> None:
    trained = [r for r in shipped if not r.notes.archived and not r.members]
    alone = ("strong", "strong-restart", "strong-restart-2")
    assert {g.key: g.n for g in groups(trained)} == {**dict.fromkeys(STUDY, 3), **dict.fromkeys(alone, 1)}
    for group in groups(trained):
        of = figures(group)
        row = next(line for line in README.splitlines() if line.startswith(f"| `{group.key}`"))
        assert [r.id for r in group.runs if f"`{r.id}`" not in row] == []
        best, last = (f"{100 * of[name]:.2f}" + _std(of[f"{name}_std"]) for name in ("best_val_top1", "last_val_top1"))
        epochs = f"(epoch{'s' * (group.n > 1)} {', '.join(str(r.best['epoch']) for r in group.runs if r.best)})"
        assert f"| {best} {epochs}" in row
        assert f"| {last} | {100 * of['last_train_top1']:.2f} |" in row
        assert row.endswith(f"| {of['num_params']:,} |")
        views = group.runs[0].report("val" + TTA)
        assert not views or f"{100 * views['top1']:.2f} with ten views" in row


def test_the_study_s_four_were_trained_by_one_version_on_one_processor_so_that_they_compare(shipped: list[Run]) -> None:
    four = [r for r in shipped if r.recipe in STUDY and not r.id.startswith("ablation-")]
    assert len(four) == 12
    assert len({tuple(r.status[k] for k in ("git_commit", "device_name", "precision", "threads")) for r in four}) == 1
    assert {(r.config.train.epochs, r.data_name) for r in four if r.config} == {(25, "fer2013")}


def test_the_shipped_ensembles_figures_are_those_of_the_store(shipped: list[Run]) -> None:
    (ensemble,) = [r for r in shipped if r.members]
    text = " ".join(README.split())
    one, views = ensemble.report("val"), ensemble.report("val" + TTA)
    assert one and views
    assert all(f"`{m}`" in text for m in ensemble.members)
    assert f"{100 * one['top1']:.2f} %, with ten views {100 * views['top1']:.2f} %" in text
    assert f"macro F1 {views['macro_f1']:.3f}, calibration error {views['calibration']['ece_after']:.3f}" in text


def test_what_is_said_of_strong_is_so(shipped: list[Run]) -> None:
    """Of what ships, better networks began from its weights; its shipped run was disturbed, so its minutes are said of it alone."""
    scratch = by_merit(r for r in shipped if r.config and not r.config.model.begins_trained and not r.members)
    assert scratch[0].recipe == "strong" != by_merit(shipped)[0].recipe
    doc, text = " ".join(RECIPES["strong"].doc.split()), " ".join(README.split())
    minutes = {r.id: round(sum(row["epoch_seconds"] for row in r.metrics) / 60) for r in shipped}
    for words in (doc, text):
        assert "the best recipe from scratch" in words and "best single network" not in words
    assert f"84 s an epoch on 2 cores in bf16, {round(84 * 48 / 60, -1):.0f} minutes in all" in doc
    assert "70 minutes in bf16 on 2 cores" in text
    assert f"the run that comes with the project took {minutes['strong']} beside other work" in doc
    assert (
        f"{minutes['ensemble']} minutes together, beside other work (of these `strong`'s {minutes['strong']}," in text
    )


def test_the_table_of_ablations_is_that_of_the_store(shipped: list[Run]) -> None:
    lines = (ROOT / "benchmarks" / "README.md").read_text().splitlines()
    ablations = [r for r in shipped if r.id.startswith("ablation-")]
    assert ablations and all(r.notes.archived for r in ablations)
    for row in table(ablations):
        line = next(text for text in lines if text.startswith(f"| `{row['recipe']}` | {row['n']} |"))
        assert f"| {100 * row['mean_top1']:.2f}{_std(row['std_top1'])} |" in line
        assert line.endswith(f"| {row['num_params']:,} |")


def _std(value: float | None) -> str:
    return "" if value is None else f" ± {100 * value:.2f}"
