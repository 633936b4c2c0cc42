"""First weights: torchvision's files by their true names, found where torch keeps them, and asked for without torch."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from torchvision import models

from fer.config import TRANSFER, ModelConfig
from fer.errors import CheckpointError
from fer.models.transfer import BACKBONES
from fer.pretrained import FOLDER, PUBLISHED, check_weights, first_weights, kept_path, weights_note, weights_record
from fer.runs import RunStore

STORE = RunStore(Path("no-runs"))


def config(**changes) -> ModelConfig:
    return ModelConfig(name="resnet18", **changes)


@pytest.mark.parametrize("name", TRANSFER)
def test_the_files_are_those_of_torchvisions_default_weights(name):
    published = models.get_model_weights(BACKBONES[name].name).DEFAULT
    assert FOLDER + PUBLISHED[name].file == published.url
    assert PUBLISHED[name].megabytes == round(published.meta["_file_size"])


def test_they_are_kept_where_torch_keeps_them(monkeypatch):
    for variable, value in (
        ("TORCH_HOME", "/a"),
        ("TORCH_HOME", None),
        ("XDG_CACHE_HOME", "/b"),
        ("XDG_CACHE_HOME", None),
    ):
        monkeypatch.setenv(variable, value) if value else monkeypatch.delenv(variable, raising=False)
        assert kept_path("resnet18") == Path(torch.hub.get_dir()) / "checkpoints" / PUBLISHED["resnet18"].file


def test_a_network_is_asked_only_for_a_file_that_is_not_here(monkeypatch):
    asked = []

    def answer(request, timeout):
        asked.append((request.full_url, request.get_method(), timeout))
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    check_weights(config(), STORE)
    check_weights(ModelConfig(), STORE)
    assert not asked
    with pytest.raises(CheckpointError, match=r"\(no route to host\).*model\.weights"):
        check_weights(config(pretrained=True), STORE)
    assert asked == [(f"{FOLDER}resnet18-f37072fd.pth", "HEAD", 10.0)]
    kept_path("resnet18").parent.mkdir(parents=True)
    kept_path("resnet18").write_bytes(b"x")
    check_weights(config(pretrained=True), STORE)
    assert len(asked) == 1


def test_a_file_that_is_missing_or_of_another_kind_is_said(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"There is no file .*gone\.pth: set model\.weights.*resnet18-f37072fd\.pth"
    ):
        check_weights(config(weights=str(tmp_path / "gone.pth")), STORE)
    with pytest.raises(CheckpointError, match=r"must end in \.pth, \.pt, \.safetensors"):
        check_weights(config(weights=str(tmp_path / "weights.zip")), STORE)
    with pytest.raises(CheckpointError, match="There is no file"):  # a file is meant, whatever could be fetched
        check_weights(config(weights=str(tmp_path / "gone.pth"), pretrained=True), STORE)


def test_a_file_comes_before_what_could_be_fetched(tmp_path):
    assert first_weights(config(), STORE) is None
    assert first_weights(config(pretrained=True), STORE) == kept_path("resnet18")
    assert first_weights(config(pretrained=True, weights=str(tmp_path / "a.pth")), STORE) == tmp_path / "a.pth"


def test_what_a_run_begins_from_is_said_before_it_is_launched(tmp_path):
    assert weights_note(ModelConfig()) == ""
    assert "begins at random" in weights_note(config())
    assert "from a.pth" in weights_note(config(weights=str(tmp_path / "a.pth")))
    assert "resnet18-f37072fd.pth, fetched at the start, once (45 MB)" in weights_note(config(pretrained=True))
    kept_path("resnet18").parent.mkdir(parents=True)
    kept_path("resnet18").write_bytes(b"x")
    assert "which is here" in weights_note(config(pretrained=True))


def test_the_record_names_the_files_content(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"abc")
    assert weights_record(config(), STORE) is None
    assert weights_record(config(weights=str(tmp_path / "a.pth")), STORE) == {
        "file": "a.pth",
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
