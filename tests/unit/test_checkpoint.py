"""Weights on disk: everything that using them needs travels with them, and what is damaged is said."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from fer.checkpoint import load_checkpoint, save_checkpoint
from fer.config import Config, with_settings
from fer.errors import CheckpointError
from fer.models import build_model
from fer.models.inputs import Preprocess

CLASSES = ("no", "yes", "perhaps")


@pytest.fixture
def saved(tmp_path):
    """(path, model) of a small grey network that was saved."""
    config = with_settings(Config(), {"model.channels": "grey", "model.name": "dilated-conv", "optim.lr": 0.25})
    torch.manual_seed(5)
    model = build_model(config.model, len(CLASSES)).to(memory_format=torch.channels_last)
    folder = tmp_path / "some-run"
    folder.mkdir()
    path = folder / "best.safetensors"
    save_checkpoint(path, model, config, CLASSES, Preprocess((0.1,), (0.3,)), epoch=7, run="r", val_top1=0.5)
    return path, model


def test_what_was_saved_comes_back(saved):
    path, model = saved
    found = load_checkpoint(path)
    assert found.classes == CLASSES
    assert found.epoch == 7
    assert found.preprocess == Preprocess((0.1,), (0.3,))
    assert found.config.optim.lr == 0.25
    assert found.config.model.name == "dilated-conv"
    assert found.extra == {"run": "r", "val_top1": 0.5}
    images = torch.randn(2, 1, 48, 48)
    assert not found.model.training
    assert torch.equal(found.model(images), model.eval()(images))


def test_the_header_can_be_read_without_fer_lab(saved):
    with safetensors.safe_open(saved[0], framework="np") as file:
        head = file.metadata()
    assert json.loads(head["classes"]) == list(CLASSES)
    assert head["input_size"] == "48"
    assert (json.loads(head["mean"]), json.loads(head["std"])) == ([0.1], [0.3])


def test_no_weights_is_an_error_that_names_the_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"no weights at gone/best\.safetensors"):
        load_checkpoint(tmp_path / "gone" / "best.safetensors")


def rewrite(path, **changes) -> None:
    """The same weights under a changed header; None takes an entry away."""
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        head = {**file.metadata(), **changes}
    safetensors.torch.save_file(tensors, path, metadata={k: v for k, v in head.items() if v is not None})


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"not weights at all, and long enough to look at"),
        lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
        lambda p: safetensors.torch.save_file({"a": torch.zeros(2)}, p),
        lambda p: rewrite(p, config=None),
        lambda p: rewrite(p, config="{"),
        lambda p: rewrite(p, config="5"),
        lambda p: rewrite(p, classes="5"),
        lambda p: rewrite(p, classes='["only", "two"]'),
        lambda p: rewrite(p, mean="null"),
        lambda p: rewrite(p, epoch="seven"),
        lambda p: rewrite(p, config=Config().model_dump_json()),
        lambda p: rewrite(p, config='{"model": {"name": "of-the-future"}}'),
    ],
)
def test_damaged_weights_are_a_clear_error(saved, damage):
    path = saved[0]
    damage(path)
    with pytest.raises(CheckpointError, match=r"some-run/best\.safetensors"):
        load_checkpoint(path)


def test_a_save_that_fails_keeps_the_old_weights(saved, monkeypatch):
    path, model = saved
    before = path.read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, model, Config(), CLASSES, Preprocess((0.1,), (0.3,)), epoch=8)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["best.safetensors"]
