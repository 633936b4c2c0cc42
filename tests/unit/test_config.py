"""Settings: one description and one set of bounds each, read strictly, said plainly when wrong."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fer.config import (
    SETTINGS,
    Config,
    differing,
    flatten,
    parse_assignments,
    read_config,
    with_settings,
)
from fer.errors import ConfigError


def error_of(changes: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        with_settings(Config(), changes)
    return str(caught.value)


def test_defaults_are_the_studys_set_up():
    config = Config()
    assert (config.train.epochs, config.train.batch_size) == (25, 64)
    assert (config.optim.name, config.optim.lr, config.optim.weight_decay) == ("adam", 0.001, 0)
    assert (config.model.name, config.model.channels, config.schedule.name) == ("baseline", "rgb", "constant")
    assert config.seed == 0


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        Config().seed = 1
    with pytest.raises(ValidationError):
        Config().optim.lr = 1


def test_every_setting_has_a_help_text_and_a_default_within_its_bounds():
    for path, setting in SETTINGS.items():
        assert setting.help.endswith("."), path
        assert setting.path == path
        if setting.choices:
            assert setting.default in setting.choices
        elif setting.minimum is not None and setting.default is not None:
            assert setting.minimum <= setting.default <= setting.maximum, path


def test_settings_and_flatten_name_the_same_paths():
    assert list(flatten(Config())) == list(SETTINGS)
    assert flatten(Config())["optim.lr"] == 0.001


def test_bounds_are_said_as_they_are_checked():
    assert SETTINGS["optim.lr"].bounds == "greater than 0, at most 10"
    assert SETTINGS["optim.momentum"].bounds == "at least 0, below 1"
    assert SETTINGS["optim.name"].bounds == "adam, adamw, sgd, muon"
    assert SETTINGS["optim.nesterov"].bounds == ""
    assert SETTINGS["runtime.threads"].optional
    assert SETTINGS["runtime.threads"].kind is int


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("optim.lr", ["1e-3", 10], [0, -1, 10.1, "nan", "inf", "fast", None]),
        ("optim.momentum", [0.99], [1, -0.1]),
        ("train.epochs", [1, "3", 10_000], [0, 10_001, "3.5", "three"]),
        ("train.batch_size", [1], [0, 65_537]),
        ("seed", [0, 2**31 - 1], [-1, 2**31, "x"]),
        ("data.val_fraction", [None, 0.5], [0, 0.51]),
        ("data.name", ["fer2013", "a.b-c_1"], ["", "../up", "Über", "a/b", "-x"]),
        ("optim.nesterov", ["true", "false"], ["maybe"]),
        ("model.name", ["grouped-conv"], ["resnet", "Baseline", ""]),
        ("schedule.gamma", [1], [0, 1.01]),
    ],
)
def test_values_are_taken_within_their_bounds_only(path, good, bad):
    for value in good:
        with_settings(Config(), {path: value})
    for value in bad:
        text = error_of({path: value})
        assert path in text
        assert repr(value) in text
        assert "Allowed" in text
        assert "\n" not in text


def test_text_from_the_command_line_becomes_the_settings_type():
    config = with_settings(
        Config(), parse_assignments(["optim.lr=0.0005", " train.epochs = 3 ", "optim.nesterov=false"])
    )
    assert (config.optim.lr, config.train.epochs, config.optim.nesterov) == (0.0005, 3, False)


def test_the_word_none_empties_an_optional_setting_and_no_other():
    assert parse_assignments(["runtime.threads=None"]) == {"runtime.threads": None}
    assert parse_assignments(["data.name=none"]) == {"data.name": "none"}


def test_an_unknown_setting_names_the_nearest_known_one():
    for read in (lambda: parse_assignments(["optim.lrr=1"]), lambda: with_settings(Config(), {"optim.lrr": 1})):
        with pytest.raises(ConfigError, match=r"no setting 'optim\.lrr'.*'optim\.lr'"):
            read()
    with pytest.raises(ConfigError, match=r"'optim\.lr'"):
        read_config({"optim": {"lrr": 1}})
    with pytest.raises(ConfigError, match=r"'train\.epochs'"):
        parse_assignments(["epochs=3"])
    with pytest.raises(ConfigError, match=r"Known settings: data\.name"):
        parse_assignments(["zzz=3"])


def test_an_assignment_without_equals_says_how_to_write_it():
    with pytest.raises(ConfigError, match="PATH=VALUE"):
        parse_assignments(["optim.lr"])


@pytest.mark.parametrize("content", [[], "text", 5, None, {"optim": 5}, {"optim": None}, {"train": []}])
def test_a_config_of_the_wrong_shape_is_a_config_error(content):
    with pytest.raises(ConfigError):
        read_config(content)


def test_settings_that_contradict_each_other_are_refused():
    assert "warm-up must end" in error_of({"schedule.warmup_epochs": 3, "train.epochs": 3})
    assert "momentum above 0" in error_of({"optim.name": "sgd", "optim.momentum": 0})
    assert "cannot take model.channels=grey" in error_of({"model.name": "grouped-conv", "model.channels": "grey"})
    with_settings(Config(), {"optim.name": "sgd", "optim.momentum": 0, "optim.nesterov": False})


def test_a_config_survives_its_json():
    config = with_settings(Config(), {"optim.lr": 0.1 + 0.2, "runtime.threads": 2, "data.val_fraction": 0.1})
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert read_config(config.model_dump(mode="json")) == config


def test_a_data_set_can_be_given_by_its_name_alone():
    assert read_config({"data": "fer2013"}).data.name == "fer2013"


def test_an_experiment_is_the_same_for_other_seeds_and_machines_only():
    base = Config().experiment
    assert with_settings(Config(), {"seed": 5, "runtime.threads": 3, "runtime.precision": "fp32"}).experiment == base
    for change in ({"optim.lr": 0.002}, {"data.name": "other"}, {"train.epochs": 24}, {"schedule.gamma": 0.4}):
        assert with_settings(Config(), change).experiment != base


def test_differing_shows_only_what_differs():
    configs = [Config(), with_settings(Config(), {"optim.lr": 0.01, "seed": 3})]
    assert differing(configs) == {"optim.lr": [0.001, 0.01], "seed": [0, 3]}
    assert differing([Config()]) == {}
    assert differing([]) == {}


def test_a_crop_is_refused_where_it_cannot_be_used():
    good = {"model.name": "residual", "augment.crop": 40}
    assert with_settings(Config(), good).augment.crop == 40
    with pytest.raises(ConfigError, match=r"crop is 40, but baseline takes whole pictures only.*residual, vgg"):
        with_settings(Config(), {"augment.crop": 40})
    with pytest.raises(ConfigError, match=r"crop is 41; it must be an even number from 24 to 48"):
        with_settings(Config(), {**good, "augment.crop": 41})
