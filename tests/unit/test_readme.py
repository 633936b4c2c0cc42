"""The documentation keeps its promises: the map names every file, the commands exist, the pictures are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fer.recipes import RECIPES, STUDY

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def mapped() -> list[str]:
    """The paths of the map, one a line, in the fenced block under 'The map'."""
    block = README.split("## The map")[1].split("```")[1]
    return [line.split()[0] for line in block.strip().splitlines()[1:]]


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
    folders = tuple(p for p in paths if p.endswith("/"))
    files = [p for p in paths if not p.endswith("/")]
    assert len(set(paths)) == len(paths)
    assert {f for f in tracked() if not f.startswith(folders)} == set(files)
    assert all((ROOT / folder).is_dir() for folder in folders)


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


def test_shipped_cards_are_those_of_the_store() -> None:
    from fer.card import model_card
    from fer.runs import RunStore

    store = RunStore(ROOT / "checkpoints")
    for run_id in store.shipped():
        run = store.get(run_id)
        assert (run.path / "model-card.md").read_text() == model_card(run), f"python -m fer runs card {run_id}"


def test_shipped_figures_are_those_of_the_store() -> None:
    from fer.experiments import figures, groups
    from fer.runs import RunStore

    store = RunStore(ROOT / "checkpoints")
    shipped = [store.get(run_id) for run_id in sorted(store.shipped())]
    assert {g.key: g.n for g in groups(shipped)} == {**dict.fromkeys(STUDY, 3), "strong": 1}
    for group in groups(shipped):
        of = figures(group)
        row = next(line for line in README.splitlines() if line.startswith(f"| `{group.key}`"))
        assert [r.id for r in group.runs if f"`{r.id}`" not in row] == []
        best, last = (f"{100 * of[name]:.2f}" + _std(of[f"{name}_std"]) for name in ("best_val_top1", "last_val_top1"))
        epochs = f"(epoch{'s' * (group.n > 1)} {', '.join(str(r.best['epoch']) for r in group.runs if r.best)})"
        assert f"| {best} {epochs}" in row
        assert f"| {last} | {100 * of['last_train_top1']:.2f} |" in row
        assert row.endswith(f"| {of['num_params']:,} |")


def _std(value: float | None) -> str:
    return "" if value is None else f" ± {100 * value:.2f}"
