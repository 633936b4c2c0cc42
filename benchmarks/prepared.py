"""What benchmarks of the two loops share: data prepared for both, and a run of the engine on them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks import study_loop
from fer.config import Config
from fer.data import dataset
from fer.data.read import import_path
from fer.runs import Run, RunStore
from fer.train import Watcher, fit


def prepare(source: Path | None, folder: Path) -> dataset.Dataset:
    """Prepare a data set, the sample faces where `source` is None, as the engine's array and as the study's files.

    The array lies in `folder/data`, the files in `folder/pictures`: those of a zip as they are, else one PNG a picture.
    """
    use(folder)
    data = import_path(source, "bench") if source else dataset.load(dataset.SAMPLE)
    dataset.save(data)
    (folder / "name").write_text(data.name)
    if source and source.suffix == ".zip":
        study_loop.unpack_zip(source, folder / "pictures")
    else:
        study_loop.unpack(data, folder / "pictures")
    return data


def use(folder: Path) -> None:
    """Let this process find the data that `prepare` put there."""
    os.environ["FER_DATA_DIR"] = str(folder / "data")


def load(folder: Path) -> dataset.Dataset:
    """The data set that `prepare` put there."""
    use(folder)
    return dataset.load((folder / "name").read_text())


def train(config: Config, data: dataset.Dataset, watcher: Watcher | None = None) -> Run:
    """The engine's own run of this config on the prepared data, in a store that goes with it."""
    with tempfile.TemporaryDirectory() as root:
        store = RunStore(Path(root))
        store.create(config, recipe=None, data={"fingerprint": data.fingerprint}, run_id="turn")
        return fit(store, "turn", watcher)


def data_name(source: Path | None) -> str:
    """What the figures were measured on."""
    return source.name if source else dataset.SAMPLE
