"""Fetching from Kaggle, with a stand-in for kagglehub: no test touches the network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fer.data import kaggle
from fer.errors import DataError


class HttpError(OSError):
    def __init__(self, status: int) -> None:
        super().__init__("refused")
        self.response = SimpleNamespace(status_code=status)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch, tmp_path):
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))


def pretend(monkeypatch, answer):
    asked = []

    def dataset_download(handle):
        asked.append(handle)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=dataset_download))
    return asked


def test_it_asks_for_the_studys_data_set_and_returns_its_folder(monkeypatch, tmp_path):
    asked = pretend(monkeypatch, tmp_path)
    assert kaggle.fetch_kaggle() == tmp_path
    assert asked == ["jonathanoheix/face-expression-recognition-dataset"]


def test_without_the_package_it_says_how_to_install_it_and_how_to_do_without(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError) as caught:
        kaggle.fetch_kaggle()
    text = str(caught.value)
    assert "Run: python -m pip install kagglehub, then: " in text
    assert "python -m fer data import" in text
    assert kaggle.PAGE in text


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_token_is_told_apart_from_a_wrong_one(monkeypatch, status):
    pretend(monkeypatch, HttpError(status))
    with pytest.raises(DataError, match=r"there is none here.*kaggle\.json.*KAGGLE_KEY.*data import"):
        kaggle.fetch_kaggle()
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "made-up")
    with pytest.raises(DataError, match="does not accept your token"):
        kaggle.fetch_kaggle()


def test_without_a_network_it_says_so_and_names_the_way_by_hand(monkeypatch):
    pretend(monkeypatch, ConnectionError("no route"))
    with pytest.raises(DataError, match=r"Check the network.*token.*by hand from https://www\.kaggle\.com/"):
        kaggle.fetch_kaggle()


def test_any_other_answer_is_named(monkeypatch):
    pretend(monkeypatch, HttpError(404))
    with pytest.raises(DataError, match="HTTP status 404"):
        kaggle.fetch_kaggle()


def test_a_folder_that_is_not_there_is_an_error(monkeypatch, tmp_path):
    pretend(monkeypatch, tmp_path / "gone")
    with pytest.raises(DataError, match="no such folder"):
        kaggle.fetch_kaggle()


def test_a_token_file_counts_as_a_token(tmp_path):
    assert not kaggle.has_token()
    Path(tmp_path / "kaggle").mkdir()
    Path(tmp_path / "kaggle" / "kaggle.json").write_text("{}")
    assert kaggle.has_token()


def test_the_package_is_not_imported_before_it_is_needed():
    assert "kagglehub" not in vars(kaggle)
