"""The named configs: what each changes, and that its text can be acted on."""

from __future__ import annotations

import pytest

from fer.config import Config, differing
from fer.errors import ConfigError
from fer.recipes import RECIPES, STUDY, get_recipe

EXPECTED = {
    "baseline": {},
    "step-decay": {"schedule.name": "step"},  # 5 epochs and 0.5 are the defaults, said again in the recipe
    "exponential-decay": {"schedule.name": "exponential", "schedule.gamma": 0.9},
    "polynomial-decay": {"schedule.name": "polynomial"},
    "cosine": {"schedule.name": "cosine"},
    "one-cycle": {"schedule.name": "one-cycle"},
    "plateau": {"schedule.name": "plateau"},
    "grouped-conv": {"model.name": "grouped-conv"},
    "depthwise-conv": {"model.name": "depthwise-conv"},
    "dilated-conv": {"model.name": "dilated-conv"},
    "augment-flip": {"augment.flip": True},
    "augment-rotate": {"augment.rotate": 10.0},
    "augment-shift-scale": {"augment.shift": 4, "augment.scale": 0.2},
    "augment-light": {"augment.light": 0.3},
    "augment-erase": {"augment.erase": 0.5},
    "mixup": {"augment.mixup": 0.2},
    "augment": {
        "augment.flip": True,
        "augment.shift": 3,
        "augment.rotate": 10.0,
        "augment.scale": 0.1,
        "augment.light": 0.2,
        "augment.erase": 0.3,
    },
    "dropout": {"model.dropout": 0.5},
    "batch-norm": {"model.batch_norm": True},
    "weight-decay": {"optim.weight_decay": 0.0005},
    "label-smoothing": {"train.label_smoothing": 0.1},
    "early-stopping": {"train.patience": 5},
    "weighted-loss": {"train.balance": "loss"},
    "balanced-sampling": {"train.balance": "sampling"},
    "fewer-layers": {"model.hidden_layers": 0},
    "narrow": {"model.width": 0.5},
    "ema": {"train.ema_decay": 0.999},
    "clipping": {"train.clip_norm": 1.0},
    "warm-up": {"schedule.warmup_epochs": 0.5},
    "transfer-resnet18": {
        "model.name": "resnet18",
        "model.pretrained": True,
        "augment.flip": True,
        "augment.shift": 3,
        "augment.rotate": 10.0,
        "augment.scale": 0.1,
        "augment.light": 0.2,
        "optim.name": "adamw",
        "optim.weight_decay": 0.05,
        "optim.layer_decay": 0.7,
        "schedule.name": "cosine",
        "train.freeze_epochs": 1,
        "train.label_smoothing": 0.1,
        "train.epochs": 12,
    },
    "fast": {
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
    },
    "strong": {
        "model.name": "residual",
        "model.channels": "grey",
        "model.dropout": 0.2,
        "augment.flip": True,
        "augment.shift": 4,
        "augment.crop": 40,
        "augment.rotate": 10.0,
        "augment.scale": 0.1,
        "augment.light": 0.2,
        "augment.erase": 0.2,
        "optim.name": "sgd",
        "optim.lr": 0.1,
        "optim.weight_decay": 0.0005,
        "schedule.name": "one-cycle",
        "schedule.pct_start": 0.225,
        "schedule.div_factor": 10.0,
        "schedule.final_div_factor": 1000.0,
        "train.batch_size": 128,
        "train.label_smoothing": 0.1,
        "train.epochs": 48,
    },
}


def test_all_recipes_are_there():
    assert set(RECIPES) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recipe_differs_from_the_baseline_in_what_it_says(name):
    found = {path: new for path, (_old, new) in differing([Config(), RECIPES[name].config()]).items()}
    assert found == EXPECTED[name]


def test_the_studys_schedules_are_the_studys():
    step = get_recipe("step-decay").config().schedule
    assert (step.step_size, step.gamma) == (5, 0.5)
    assert get_recipe("exponential-decay").config().schedule.gamma == 0.9


def test_the_study_is_four_recipes_and_four_experiments():
    assert STUDY == ("baseline", "step-decay", "exponential-decay", "grouped-conv")
    assert len({get_recipe(name).config().experiment for name in RECIPES}) == len(RECIPES)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recipes_text_states_its_command(name):
    recipe = RECIPES[name]
    assert f"python -m fer train --recipe {name} " in recipe.doc
    assert recipe.summary.endswith(".")
    assert recipe.title


def test_an_unknown_recipe_names_the_nearest_and_all():
    with pytest.raises(ConfigError, match=r"no recipe 'step-decy'\. Did you mean 'step-decay'\?.*baseline"):
        get_recipe("step-decy")
    with pytest.raises(ConfigError, match=r"no recipe 'zzz'\. Known recipes: baseline"):
        get_recipe("zzz")
