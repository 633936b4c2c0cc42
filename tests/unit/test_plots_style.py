"""Colours of runs: their recipe's, none twice, and kept while others come and go."""

import itertools
import math

import pytest

from fer.plots.overview import _text_on
from fer.plots.style import RECIPE_COLOURS, Mark, _oklab, marks, recipe_colour
from fer.recipes import RECIPES, STUDY


def closest(found: list[Mark]) -> float:
    """The smallest distance between two colours, 0 to 1."""
    return min(math.dist(_oklab(a.colour), _oklab(b.colour)) for a, b in itertools.combinations(found, 2))


def test_the_first_of_a_recipe_has_its_colour_and_no_two_have_the_same() -> None:
    keys = [
        (f"run-{i}", recipe)
        for i, recipe in enumerate(["baseline"] * 6 + ["custom", "mine", "cosine", "fast", "baseline", "odd"])
    ]
    found = marks(keys)
    assert found[0].colour == recipe_colour("baseline")
    assert len({m.colour for m in found}) == len(keys)
    assert found[0].symbol != found[1].symbol
    assert closest(found) > 0.08


def test_a_further_run_of_a_recipe_is_a_shade_of_it() -> None:
    first, lighter, darker = marks([(f"s{seed}", "baseline") for seed in range(3)])
    assert _oklab(darker.colour)[0] < _oklab(first.colour)[0] < _oklab(lighter.colour)[0]


@pytest.mark.parametrize(
    "recipes",
    [
        [recipe for recipe in STUDY for _ in range(3)],
        list(RECIPES)[:16],
        list(RECIPES)[16:],
        [*STUDY, "strong", "ensemble", "fast", "custom", "mine", "yours", "augment", "augment", "dropout"],
    ],
)
def test_colours_of_a_figure_are_not_taken_for_each_other_and_seen_on_both_papers(recipes: list[str]) -> None:
    found = marks([(str(i), recipe) for i, recipe in enumerate(recipes)])
    assert closest(found) > 0.08
    for mark in found:
        assert min(contrast(mark.colour, "#ffffff"), contrast(mark.colour, "#10161d")) > 1.9, mark


def contrast(first: str, second: str) -> float:
    """The ratio of their luminances, as WCAG 2 has it; 1 to 21."""
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_the_colour_of_a_recipe_is_its_own_where_there_is_room() -> None:
    assert len({recipe_colour(name) for name in (*STUDY, "strong", "ensemble", "fast", "custom")}) == 8
    assert set(RECIPES) < set(RECIPE_COLOURS)


def test_a_run_keeps_its_colour_when_another_leaves_or_comes() -> None:
    keys = [("a", "baseline"), ("b", "baseline"), ("c", "baseline")]
    kept = {key: mark for (key, _), mark in zip(keys, marks(keys), strict=True)}
    assert marks(keys[1:], kept) == [kept["b"], kept["c"]]
    new, *others = marks([("new", "baseline"), *keys], kept)
    assert others == list(kept.values()) and new.colour not in {m.colour for m in others}


def test_of_two_that_were_given_the_same_colour_one_gets_another() -> None:
    same = Mark("#112233", "circle")
    first, second = marks([("a", "cosine"), ("b", "cosine")], {"a": same, "b": same})
    assert first == same and second.colour != first.colour


def test_more_runs_than_colours_still_have_marks() -> None:
    assert len(marks([(str(i), "cosine") for i in range(60)])) == 60
    assert len({m.colour for m in marks([(str(i), "cosine") for i in range(48)])}) == 48


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_figures_in_homes_bars_can_be_read(recipe: str) -> None:
    for mark in marks([(f"s{i}", recipe) for i in range(6)]):
        assert contrast(_text_on(mark.colour), mark.colour) >= 3
