"""Colours of runs: their recipe's, none twice, and kept while others come and go."""

from fer.plots.style import RECIPE_COLOURS, Mark, marks, recipe_colour


def test_the_first_of_a_recipe_has_its_colour_and_no_two_have_the_same() -> None:
    keys = [
        (f"run-{i}", recipe)
        for i, recipe in enumerate(["baseline"] * 6 + ["custom", "mine", "cosine", "fast", "baseline", "odd"])
    ]
    found = marks(keys)
    assert found[0].colour == recipe_colour("baseline")
    assert len({m.colour for m in found}) == len(keys)
    assert found[0].symbol != found[1].symbol


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
    assert set(RECIPE_COLOURS.values()) <= {m.colour for m in marks([(str(i), "cosine") for i in range(60)])}
