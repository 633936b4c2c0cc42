"""Named configs. Each holds only what differs from the baseline and says why.

The study's set-up is the default of every setting: batch 64, Adam at 0.001, 25 epochs, three equal channels with
ImageNet mean and std, no augmentation, no early stop.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fer.config import Config, differing, with_settings
from fer.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """A named config: `changes` is what differs from the baseline, by dotted path; `summary` is one sentence."""

    name: str
    title: str
    summary: str
    doc: str
    changes: dict[str, Any]

    def config(self) -> Config:
        """The complete config, on the sample faces with seed 0."""
        return with_settings(Config(), self.changes)


RECIPES: dict[str, Recipe] = {}
STUDY = ("baseline", "step-decay", "exponential-decay", "grouped-conv")


def _recipe(title: str) -> Callable[[Callable[[], dict[str, Any]]], Callable[[], dict[str, Any]]]:
    def register(build: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        name = build.__name__.replace("_", "-")
        doc = inspect.getdoc(build) or ""
        RECIPES[name] = Recipe(name, title, doc.split("\n")[0], doc, build())
        return build

    return register


def get_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises ConfigError that names the nearest one."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"There is no recipe '{name}'.{hint} Known recipes: {', '.join(RECIPES)}.")
    return RECIPES[name]


def changes_from(recipe: str, config: Config) -> dict[str, Any]:
    """What differs from the recipe, data set and seed included: `{dotted path: value}`. Raises ConfigError."""
    return dict(_changes(get_recipe(recipe).name, config))


@lru_cache(maxsize=20_000)  # tables of runs ask for each run at each refresh
def _changes(recipe: str, config: Config) -> tuple[tuple[str, Any], ...]:
    return tuple((path, new) for path, (_, new) in differing([RECIPES[recipe].config(), config]).items())


@_recipe("Baseline CNN")
def baseline() -> dict[str, Any]:
    """The study's network: three 5x5 convolutions and three linear layers, at a constant learning rate.

    python -m fer train --recipe baseline --dataset fer2013
    """
    return {}


@_recipe("Step decay")
def step_decay() -> dict[str, Any]:
    """The baseline with the learning rate halved every 5 epochs.

    python -m fer train --recipe step-decay --dataset fer2013
    """
    return {"schedule.name": "step", "schedule.step_size": 5, "schedule.gamma": 0.5}


@_recipe("Exponential decay")
def exponential_decay() -> dict[str, Any]:
    """The baseline with the learning rate multiplied by 0.9 after each epoch.

    python -m fer train --recipe exponential-decay --dataset fer2013
    """
    return {"schedule.name": "exponential", "schedule.gamma": 0.9}


@_recipe("Polynomial decay")
def polynomial_decay() -> dict[str, Any]:
    """The baseline with the learning rate falling in a straight line to zero; named by the study, not run there.

    python -m fer train --recipe polynomial-decay --dataset fer2013
    """
    return {"schedule.name": "polynomial", "schedule.power": 1.0}


@_recipe("Cosine decay")
def cosine() -> dict[str, Any]:
    """The baseline with the learning rate falling along half a cosine to zero (Loshchilov & Hutter, 2017).

    python -m fer train --recipe cosine --dataset fer2013
    """
    return {"schedule.name": "cosine"}


@_recipe("One-cycle")
def one_cycle() -> dict[str, Any]:
    """The baseline with the learning rate rising to 0.001 and falling far below its start (Smith & Topin, 2018).

    python -m fer train --recipe one-cycle --dataset fer2013
    """
    return {"schedule.name": "one-cycle"}


@_recipe("Reduce on plateau")
def plateau() -> dict[str, Any]:
    """The baseline with the learning rate halved whenever validation loss has not improved for more than 2 epochs.

    python -m fer train --recipe plateau --dataset fer2013
    """
    return {"schedule.name": "plateau", "schedule.factor": 0.5, "schedule.patience": 2}


@_recipe("Grouped convolution")
def grouped_conv() -> dict[str, Any]:
    """The study's second network: 3 groups in each convolution, 38 % fewer parameters.

    python -m fer train --recipe grouped-conv --dataset fer2013
    """
    return {"model.name": "grouped-conv"}


@_recipe("Depthwise separable convolution")
def depthwise_conv() -> dict[str, Any]:
    """The baseline's second and third convolutions split into a 5x5 for each channel and a 1x1 across channels (Howard et al., 2017).

    python -m fer train --recipe depthwise-conv --dataset fer2013
    """
    return {"model.name": "depthwise-conv"}


@_recipe("Dilated convolution")
def dilated_conv() -> dict[str, Any]:
    """The baseline's convolutions as 3x3 kernels spread over 5x5 pixels (Yu & Koltun, 2016).

    python -m fer train --recipe dilated-conv --dataset fer2013
    """
    return {"model.name": "dilated-conv"}


@_recipe("Fast")
def fast() -> dict[str, Any]:
    """Four epochs of a small network with batch norm, one grey channel and flips: better than the baseline within a minute.

    python -m fer train --recipe fast --dataset fer2013
    """
    return {
        "model.name": "compact",
        "model.channels": "grey",
        "augment.flip": True,
        "optim.name": "adamw",
        "optim.lr": 0.01,
        "optim.weight_decay": 0.05,
        "schedule.name": "one-cycle",
        "schedule.pct_start": 0.2,
        "schedule.div_factor": 10.0,
        "schedule.final_div_factor": 1000.0,
        "train.batch_size": 128,
        "train.epochs": 4,
    }
